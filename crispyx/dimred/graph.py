"""Neighbor graph and UMAP from an embedding; the matrix is never touched."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._run.extras import import_scanpy
from crispyx._run.threads import resolve_threads
from crispyx.data.arguments import positive, whole
from crispyx.dimred.target import Slots, Target, resolve_target
from crispyx.errors import InputError

if TYPE_CHECKING:
    import anndata

METHODS = ("umap", "sklearn")


def neighbors(
    adata: Any,
    n_neighbors: int = 15,
    n_pcs: int | None = None,
    use_rep: str = "X_pca",
    metric: str = "euclidean",
    method: str = "umap",
    random_state: int = 0,
    copy: bool = False,
    show_progress: bool = True,
) -> Any:
    """Connect every cell with its nearest neighbors in an embedding.

    Only the embedding and the graph are in memory. Neighbors come from pynndescent or scikit-learn,
    connectivities from umap-learn, with scanpy's settings.

    Parameters
    ----------
    adata : path, crispyx.AnnData or anndata.AnnData (backed or in memory)
        Data set with the embedding; the graph is added to it.
    n_neighbors : int >= 2
        Neighbors of a cell, itself included.
    n_pcs : int or None
        Columns of the embedding to use; None takes all.
    use_rep : str
        Entry of obsm.
    metric : str
        ``euclidean``, ``cosine``, ``manhattan`` or another metric of the library that searches.
    method : {"umap", "sklearn"}
        Approximate search by pynndescent, or exact search by scikit-learn.
    random_state : int
        Seed of the approximate search.
    copy : bool
        Leave ``adata`` as it is and return a copy: for a file ``crispyx_neighbors.h5ad`` beside it.
    show_progress : bool
        Show the messages of pynndescent where standard error is a terminal.

    Returns
    -------
    AnnData or None
        The copy, or None. Added are ``obsp["distances"]`` and ``obsp["connectivities"]`` (n_cells,
        n_cells) CSR, and ``uns["neighbors"]``: the keys of both, and ``params`` with
        ``n_neighbors``, ``method`` (of the connectivities, always ``"umap"``), ``metric``,
        ``use_rep``, ``n_pcs`` where it was given, ``random_state``.

    Raises
    ------
    InputError
        No such embedding, or one with missing values; a number out of range; unknown method.

    Notes
    -----
    Source: McInnes, Healy and Melville, arXiv:1802.03426.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}; choose one of {METHODS}")
    target = resolve_target(adata)
    embedding = used_embedding(target, use_rep, n_pcs)
    n_neighbors = whole("n_neighbors", n_neighbors, 2)
    if n_neighbors > len(embedding):
        raise InputError(f"n_neighbors is {n_neighbors}, but there are {len(embedding)} cells")
    import_scanpy("cx.pp.neighbors")
    used = np.ascontiguousarray(embedding, dtype=np.float32)
    nearest, distances = _nearest(used, n_neighbors, metric, method, random_state, show_progress)
    params = {
        "n_neighbors": n_neighbors,
        "method": "umap",
        "metric": metric,
        "use_rep": use_rep,
        "random_state": random_state,
    }
    if n_pcs is not None:
        params["n_pcs"] = embedding.shape[1]
    slots: Slots = {
        "obsp": {
            "distances": _sparse(nearest[:, 1:], distances[:, 1:]),
            "connectivities": _connectivities(nearest, distances),
        },
        "uns": {
            "neighbors": {
                "connectivities_key": "connectivities",
                "distances_key": "distances",
                "params": params,
            }
        },
    }
    return target.added_to_copy(slots, "neighbors", params) if copy else target.add(slots)


def umap(
    adata: Any,
    min_dist: float = 0.5,
    spread: float = 1.0,
    n_components: int = 2,
    neighbors_key: str = "neighbors",
    random_state: int = 0,
    copy: bool = False,
) -> Any:
    """Lay the neighbor graph out in a few dimensions with scanpy's UMAP.

    Only the graph and the layout are in memory.

    Parameters
    ----------
    adata : path, crispyx.AnnData or anndata.AnnData (backed or in memory)
        Data set with a neighbor graph (:func:`neighbors`); the layout is added to it.
    min_dist : float
        Smallest distance of two points in the layout; smaller packs clusters tighter.
    spread : float
        Scale of the layout.
    n_components : int
        Its dimensions.
    neighbors_key : str
        Entry of uns that describes the graph.
    random_state : int
        Seed.
    copy : bool
        Leave ``adata`` as it is and return a copy: for a file ``crispyx_umap.h5ad`` beside it.

    Returns
    -------
    AnnData or None
        The copy, or None. Added are ``obsm["X_umap"]`` (n_cells, n_components) float32 and
        ``uns["umap"]["params"]``.

    Raises
    ------
    InputError
        No such graph; a number out of range.

    Notes
    -----
    Source: McInnes, Healy and Melville, arXiv:1802.03426.
    """
    if not 0 <= min_dist <= spread:
        raise InputError(f"min_dist is {min_dist!r}; give a number from 0 to spread ({spread!r})")
    positive("spread", spread)
    whole("n_components", n_components, 1)
    target = resolve_target(adata)
    described = target.entry("uns", neighbors_key)
    if described is None:
        raise InputError(
            f"uns has no {neighbors_key!r}; run cx.pp.neighbors first, or give neighbors_key="
        )
    key = described["connectivities_key"]
    graph = target.entry("obsp", key)
    if graph is None:
        raise InputError(f"uns[{neighbors_key!r}] names obsp[{key!r}], which is not there")
    sc = import_scanpy("cx.tl.umap")
    view = _without_matrix(graph.shape[0])
    params = dict(described["params"])
    use_rep = str(params.get("use_rep", "X_pca"))
    view.obsm[use_rep] = _embedding(target, use_rep)
    view.obsp[key] = graph
    view.uns[neighbors_key] = {"connectivities_key": key, "params": params}
    sc.tl.umap(
        view,
        min_dist=min_dist,
        spread=spread,
        n_components=n_components,
        neighbors_key=neighbors_key,
        random_state=random_state,
    )
    used = {"min_dist": min_dist, "spread": spread, "random_state": random_state}
    layout = np.asarray(view.obsm["X_umap"], dtype=np.float32)
    fitted = {name: view.uns["umap"]["params"][name] for name in ("a", "b")}
    slots: Slots = {"obsm": {"X_umap": layout}, "uns": {"umap": {"params": fitted | used}}}
    if copy:
        return target.added_to_copy(slots, "umap", used | {"n_components": n_components})
    return target.add(slots)


def used_embedding(target: Target, use_rep: str, n_pcs: int | None) -> np.ndarray:
    """Return the first ``n_pcs`` columns of an embedding (n_cells, n_pcs), or all of them.

    Raises
    ------
    InputError
        No such embedding, one with missing values, or one of fewer columns.
    """
    embedding = _embedding(target, use_rep)
    if n_pcs is None:
        return embedding
    n_pcs = whole("n_pcs", n_pcs, 1)
    if n_pcs > embedding.shape[1]:
        raise InputError(
            f"n_pcs is {n_pcs}, but obsm[{use_rep!r}] has {embedding.shape[1]} columns"
        )
    return embedding[:, :n_pcs]


def _embedding(target: Target, name: str) -> np.ndarray:
    found = target.entry("obsm", name)
    if found is None:
        there = ", ".join(map(repr, target.names("obsm"))) or "nothing"
        raise InputError(
            f"obsm has no {name!r}; it has {there}: run cx.pp.pca first, or give use_rep="
        )
    embedding = np.asarray(found)
    bad = ~np.isfinite(embedding)
    if bad.any():
        row, column = (int(i[0]) for i in np.nonzero(bad))
        raise InputError(
            f"obsm[{name!r}] holds {embedding[row, column]} at row {row}, column {column}; "
            "an embedding needs finite numbers"
        )
    return embedding


def _nearest(
    embedding: np.ndarray,
    n_neighbors: int,
    metric: str,
    method: str,
    random_state: int,
    show_progress: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbors and distances (n_cells, n_neighbors), each cell first among its own."""
    n_jobs = resolve_threads()
    if method == "sklearn":
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(n_neighbors=n_neighbors, metric=metric, n_jobs=n_jobs)
        distances, nearest = search.fit(embedding).kneighbors()
    else:
        import numba
        from pynndescent import NNDescent

        index = NNDescent(
            embedding,
            n_neighbors=n_neighbors,
            metric=metric,
            random_state=random_state,
            n_jobs=min(n_jobs, numba.get_num_threads()),  # more are an error there
            verbose=show_progress and sys.stderr.isatty(),
        )
        nearest, distances = index.neighbor_graph
    own = np.arange(len(embedding))[:, None]
    # Whether a cell lists itself differs between the libraries, and among equal cells.
    order = np.argsort(nearest == own, axis=1, kind="stable")[:, : n_neighbors - 1]
    others = np.take_along_axis(nearest, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    return np.hstack([own, others]), np.hstack([np.zeros(own.shape), distances])


def _sparse(nearest: np.ndarray, distances: np.ndarray) -> Any:
    import scipy.sparse as sp

    n_cells, width = nearest.shape
    ptr = np.arange(0, n_cells * width + 1, width)
    table = sp.csr_matrix((distances.ravel(), nearest.ravel(), ptr), shape=(n_cells, n_cells))
    table.sort_indices()
    return table


def _connectivities(nearest: np.ndarray, distances: np.ndarray) -> Any:
    import scipy.sparse as sp
    from umap.umap_ import fuzzy_simplicial_set

    n_cells, n_neighbors = nearest.shape
    connected, *_ = fuzzy_simplicial_set(
        sp.coo_matrix((n_cells, 1)),
        n_neighbors,
        None,
        None,
        knn_indices=nearest.astype(np.int32),
        knn_dists=distances.astype(np.float32),
        set_op_mix_ratio=1.0,
        local_connectivity=1.0,
    )
    return sp.csr_matrix(connected)


def _without_matrix(n_cells: int) -> anndata.AnnData:
    """Return an AnnData of so many cells that carries nothing."""
    import anndata
    import pandas as pd

    return anndata.AnnData(obs=pd.DataFrame(index=pd.RangeIndex(n_cells).astype(str)))
