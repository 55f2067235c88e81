"""Files: the only room that opens HDF5.

``source`` reads matrices of any layout as blocks of cells or genes, ``annotations`` reads obs and
var, ``writer`` writes h5ad files that appear under their name only when complete.
"""
