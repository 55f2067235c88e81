"""Principal components, neighbor graphs, UMAP, energy distances; see ``docs/dimred.md``."""

from crispyx.dimred.energy import energy_distance
from crispyx.dimred.graph import neighbors, umap
from crispyx.dimred.pca import pca

__all__ = ["energy_distance", "neighbors", "pca", "umap"]
