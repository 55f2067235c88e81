"""Principal components, neighbor graphs and UMAP; see ``docs/dimred.md``."""

from crispyx.dimred.graph import neighbors, umap
from crispyx.dimred.pca import pca

__all__ = ["neighbors", "pca", "umap"]
