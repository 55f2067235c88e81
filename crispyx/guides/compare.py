"""Several models on the same counts: how far they agree, and what most of them say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._run.threads import resolve_threads
from crispyx._version import __version__
from crispyx.errors import InputError, InputTypeError
from crispyx.guides.assignment import assign
from crispyx.guides.calls import BARCODE, cell_table, guide_table, with_input_columns
from crispyx.guides.counts import CalledCounts, call_counts, require_unique_names
from crispyx.guides.inputs import GUIDE_FEATURES, open_guides
from crispyx.settings import settings

if TYPE_CHECKING:
    import anndata
    import pandas as pd

DEFAULT_MODELS = ("poisson_gauss", "gauss", "poisson", "umi")


@dataclass(frozen=True)
class Comparison:
    """Calls of several models; what :func:`compare` returns.

    Attributes
    ----------
    models : list of str
        Names of the models.
    agreement : pandas.DataFrame (n_models, n_models)
        Jaccard index of their pairs of cell and guide: pairs that both call, of those that at least
        one calls. NaN where neither calls any.
    single_agreement : pandas.DataFrame (n_models, n_models)
        The same over the pairs of cells in which a model calls exactly one guide.
    n_calls : pandas.Series
        Pairs that each model calls.
    n_cells_assigned : pandas.Series
        Cells with at least one.
    consensus : anndata.AnnData
        As :func:`crispyx.guides.assign` returns it: the pairs that at least ``min_models`` models
        call; ``layers["votes"]`` (CSR uint8) how many do, and ``assignment_confidence`` their share
        of the models.
    calls : dict of str to anndata.AnnData
        Calls of each model.
    """

    models: list[str]
    agreement: pd.DataFrame
    single_agreement: pd.DataFrame
    n_calls: pd.Series
    n_cells_assigned: pd.Series
    consensus: anndata.AnnData
    calls: dict[str, anndata.AnnData]

    def __repr__(self) -> str:
        called = ", ".join(f"{name}: {self.n_calls[name]}" for name in self.models)
        return f"Comparison({called}; consensus: {int(self.consensus.layers['assigned'].sum())})"


def compare(
    path: Any,
    models: Iterable[str] | Mapping[str, Mapping[str, Any]] = DEFAULT_MODELS,
    *,
    min_models: int | None = None,
    n_jobs: int | None = None,
    layer: str | None = None,
    feature_type: str = GUIDE_FEATURES,
    modality: str | None = None,
) -> Comparison:
    """Call guides by several models and say where they agree.

    Parameters
    ----------
    path
        Cells x guides UMI counts, see :func:`crispyx.guides.assign`. They are read once.
    models : list of str, or mapping of a name to the arguments of assign
        At least two. ``{"umi 3": {"model": "umi", "umi_threshold": 3}, ...}`` compares settings of
        one model; without ``model`` the name is the model.
    min_models : int, optional
        Models that a pair of the consensus needs; more than half of them unless given.
    n_jobs, layer, feature_type, modality
        See :func:`crispyx.guides.assign`.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        Fewer than two models, or one name twice; ``min_models`` out of range; whatever ``assign``
        refuses.
    InputTypeError
        Models of another kind.

    Warns
    -----
    CrispyxWarning
        As ``assign`` does, for each model.
    """
    given = _models(models)
    needed = _needed(min_models, len(given))
    with open_guides(path, layer, feature_type=feature_type, modality=modality) as source:
        require_unique_names(source.obs.index, source.var.index, source.where)
        read = call_counts(source, None, settings.engine, resolve_threads(n_jobs))
        counts = _as_anndata(read, source.table("obs"), source.table("var"))
    calls = {
        name: assign(counts, feature_type=feature_type, n_jobs=n_jobs, **arguments)
        for name, arguments in given.items()
    }
    names = list(given)
    layers = [calls[name].layers["assigned"] for name in names]
    return Comparison(
        names,
        _agreement(names, layers),
        _agreement(names, [_single(layer) for layer in layers]),
        _series(names, [layer.nnz for layer in layers]),
        _series(names, [int((np.diff(layer.indptr) > 0).sum()) for layer in layers]),
        _consensus(read, counts, layers, names, needed),
        calls,
    )


def _models(models: Any) -> dict[str, dict[str, Any]]:
    if isinstance(models, Mapping):
        wrong = [name for name, arguments in models.items() if not isinstance(arguments, Mapping)]
        if wrong:
            raise InputTypeError(
                f"models maps {wrong[0]!r} to {models[wrong[0]]!r}; give the arguments of assign, "
                "for example {'umi 3': {'model': 'umi', 'umi_threshold': 3}}"
            )
        given = {str(name): {"model": str(name)} | dict(a) for name, a in models.items()}
    elif isinstance(models, str) or not isinstance(models, Iterable):
        raise InputTypeError(f"models is {models!r}; give a list of model names, or a dict")
    else:
        names = [str(name) for name in models]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(f"the model {repeated[0]!r} stands twice in models")
        given = {name: {"model": name} for name in names}
    if len(given) < 2:
        raise InputError(f"models names {list(given)}; give at least two to compare")
    return given


def _needed(min_models: Any, n_models: int) -> int:
    if min_models is None:
        return n_models // 2 + 1
    whole = isinstance(min_models, Integral) and not isinstance(min_models, bool)
    if not (whole and 1 <= min_models <= n_models):
        raise InputError(
            f"min_models is {min_models!r}; give a whole number from 1 to {n_models}, the models"
        )
    return int(min_models)


def _as_anndata(read: CalledCounts, obs: pd.DataFrame, var: pd.DataFrame) -> anndata.AnnData:
    import anndata
    import scipy.sparse as sp

    matrix = sp.csr_matrix((read.counts, read.guides, read.ptr), shape=read.shape)
    return anndata.AnnData(X=matrix, obs=obs, var=var)


def _single(called: Any) -> Any:
    """Return the calls of cells that have exactly one."""
    import scipy.sparse as sp

    lengths = np.diff(called.indptr)
    kept = np.repeat(lengths == 1, lengths)
    ptr = np.concatenate([[0], np.cumsum(lengths == 1)])
    return sp.csr_matrix((called.data[kept], called.indices[kept], ptr), shape=called.shape)


def _agreement(names: list[str], layers: list[Any]) -> pd.DataFrame:
    import pandas as pd

    shared = np.array([[a.multiply(b).count_nonzero() for b in layers] for a in layers])
    sizes = np.diag(shared)
    either = sizes[:, None] + sizes - shared
    with np.errstate(invalid="ignore"):
        jaccard = shared / either
    return pd.DataFrame(jaccard, index=names, columns=names)


def _series(names: list[str], values: list[int]) -> pd.Series:
    import pandas as pd

    return pd.Series(values, index=names, dtype=np.int64)


def _consensus(
    read: CalledCounts, counts: anndata.AnnData, layers: list[Any], names: list[str], needed: int
) -> anndata.AnnData:
    import anndata
    import scipy.sparse as sp

    n_guides = read.shape[1]
    place = read.cells * n_guides + read.guides
    votes = np.zeros(len(place), dtype=np.uint8)
    for layer in layers:
        # A call is a count above 0, so that every one is found among the places of the counts.
        cells = np.repeat(np.arange(layer.shape[0]), np.diff(layer.indptr))
        votes[np.searchsorted(place, cells * n_guides + layer.indices)] += 1
    kept = votes >= needed
    called = CalledCounts(
        read.shape, read.ptr, read.guides, read.counts, kept, kept, votes / len(layers)
    )
    barcodes, guides = counts.obs_names.to_numpy(), counts.var_names.to_numpy()
    obs = cell_table(called, None, barcodes, guides)
    shape = read.shape
    elected, voted = (
        sp.csr_matrix((values[use], (read.cells[use], read.guides[use])), shape=shape)
        for values, use in ((kept.astype(np.uint8), kept), (votes, votes > 0))
    )
    note = {
        "model": "consensus",
        "model_params": {"models": np.array(names, dtype=object), "min_models": needed},
        "version": __version__,
    }
    return anndata.AnnData(
        X=counts.X,
        obs=with_input_columns(obs, counts.obs, "obs", reserved=(BARCODE,)),
        var=with_input_columns(guide_table(called, guides), counts.var, "var"),
        layers={"assigned": elected, "votes": voted},
        uns={name: dict(note) for name in ("crispyx_guides", "kaichi")},
    )
