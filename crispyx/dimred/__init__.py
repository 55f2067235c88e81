"""Principal components, neighbor graphs, UMAP, energy distances; see ``docs/dimred.md``."""

from crispyx.dimred.energy import energy_distance
from crispyx.dimred.graph import neighbors, umap
from crispyx.dimred.highly_variable import highly_variable_genes
from crispyx.dimred.pca import pca

__all__ = ["energy_distance", "highly_variable_genes", "neighbors", "pca", "umap"]
