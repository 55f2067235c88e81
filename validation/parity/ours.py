"""The package through its public doors, once by each engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from unittest import mock

import numpy as np

import crispyx as cx
from crispyx._kernels.layout import CompressedBlock
from crispyx.de.nb_passes import Passes
from crispyx.settings import Engine

ENGINES: tuple[Engine, Engine] = ("reference", "compiled")
# Every gene is tested, as by tools without such filters.
UNFILTERED = {"min_pct_ctrl": 0, "min_pct_pert": 0, "min_mean_ctrl": 0, "min_mean_pert": 0}
TABLES = (
    "statistics",
    "pvalues",
    "pvalues_adj",
    "logfoldchanges",
    "u_statistics",
    "effect_size",
    "pts",
    "pts_rest",
)
# Natural-log units; sums of thousands of terms round by less.
OBJECTIVE_ROUNDING = 1e-3
T = TypeVar("T")


@contextmanager
def output_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def by_engine(compute: Callable[[Path], T]) -> tuple[T, T]:
    """Return what ``compute(folder)`` returns by the reference and by the kernels."""
    found = []
    for engine in ENGINES:
        with output_folder() as folder, cx.use_engine(engine), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is compared, or not, on purpose
            found.append(compute(folder))
    return found[0], found[1]


@contextmanager
def given_dispersions(genes: np.ndarray, dispersions: np.ndarray) -> Iterator[None]:
    """Let the negative binomial test take genewise dispersions of some genes from elsewhere.

    They stand where its own would, before trend and prior are fitted.

    Parameters
    ----------
    genes : numpy.ndarray (n_given,) int64
        Positions of the genes in the file.
    dispersions : numpy.ndarray (n_given,) float64
        Taken in every comparison.
    """
    fit = Passes.genewise

    def genewise(self: Passes, block: CompressedBlock) -> dict[str, np.ndarray]:
        tile = fit(self, block)
        here = (genes >= block.start) & (genes < block.stop)
        tile["dispersion"][:, genes[here] - block.start] = dispersions[here]
        return tile

    with mock.patch.object(Passes, "genewise", genewise):
        yield


def tested(
    test: Callable[..., Any],
    path: Path,
    control: str,
    *,
    layers: tuple[str, ...] = (),  # noqa: PT028 - not a test of pytest's
    **arguments: Any,
) -> Callable[[Path], dict[str, np.ndarray]]:
    """Return a function of a folder that tests all genes of all perturbations.

    It returns tables (n_groups, n_genes) by name, groups in alphabetical order; ``layers`` names
    further ones, of the result file.
    """

    def compute(folder: Path) -> dict[str, np.ndarray]:
        result = test(
            str(path),
            perturbation_column="perturbation",
            control_label=control,
            output_dir=folder,
            **UNFILTERED | arguments,
        )
        order = np.argsort(result.groups)
        found = {name: np.asarray(getattr(result, name), dtype=float) for name in TABLES}
        if layers:
            stored = result.result.to_memory().layers
            found |= {name: np.asarray(stored[name], dtype=float) for name in layers}
        return {name: table[order] for name, table in found.items()}

    return compute


def called_pairs(path: Path, model: str, **arguments: Any) -> Callable:
    """Return a function of a folder that returns called (cell, guide) pairs (n_pairs, 2)."""

    def compute(folder: Path) -> np.ndarray:
        calls = cx.gd.assign(str(path), model, n_jobs=1, **arguments).layers["assigned"].tocoo()
        there = calls.data != 0
        return np.stack([calls.row[there], calls.col[there]], axis=1)

    return compute


def better_fits(path: Path, model: str, **arguments: Any) -> np.ndarray:
    """Return which guides the kernels fit with a higher objective than the reference, bool."""
    reference, compiled = by_engine(
        lambda _: cx.gd.score(str(path), model, n_jobs=1, **arguments).fits["objective"].to_numpy()
    )
    return np.asarray(compiled > reference + OBJECTIVE_ROUNDING)
