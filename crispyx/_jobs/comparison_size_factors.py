"""Size factors of every comparison on its own, streamed by cells from any layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from crispyx._io.compressed import joined
from crispyx._io.source import MatrixSource
from crispyx._jobs.size_factors import cells_of, require_method
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._run.budget import require, working_memory
from crispyx._stats.size_factors import (
    GeneSums,
    SizeFactorMethod,
    cell_size_factors,
    scaled,
    size_factors,
)
from crispyx.errors import InputError
from crispyx.settings import Engine

BYTES_PER_GENE = 32  # of one comparison: two sums, expressing cells and the log mean


@dataclass(frozen=True)
class ComparisonSizeFactors:
    """Size factors of the control and of one perturbation, for every perturbation.

    Attributes
    ----------
    control : numpy.ndarray (n_perturbations, n_control) float64
        Of the control cells in their order, one row for each comparison.
    perturbed : list of numpy.ndarray (n_cells,) float64
        Of each perturbation's cells in their order.
    """

    control: np.ndarray
    perturbed: list[np.ndarray]


def stream_comparison_size_factors(
    source: MatrixSource,
    membership: Membership,
    method: SizeFactorMethod,
    names: tuple[str, ...],
    *,
    scale: bool,
    scratch_dir: Path | None = None,
    memory_limit_gb: float | None = None,
    engine: Engine = "compiled",
    n_threads: int = 1,
) -> ComparisonSizeFactors:
    """Estimate size factors on the control and each perturbation, in two passes over the cells.

    Parameters
    ----------
    source : MatrixSource
        Counts.
    membership : Membership
        Groups of the cells, 0 the control.
    method, scale, scratch_dir, engine, n_threads
        As for :func:`crispyx._jobs.size_factors.stream_size_factors`.
    names : tuple of str
        Perturbations, for messages.
    memory_limit_gb : float or None
        See :func:`crispyx._run.budget.working_memory`.

    Raises
    ------
    MemoryBudgetError
        Sums of the genes of every comparison, and size factors of its control, do not fit.
    InputError
        An unknown method, no gene that all cells of a comparison express ("deseq2"), or a cell
        without a count of a usable gene.
    """
    require_method(method)
    n_groups = len(membership.sizes)
    held = BYTES_PER_GENE * source.shape[1] + 8 * int(membership.sizes[0])
    require(
        n_groups * held,
        working_memory(memory_limit_gb),
        f"{source.where}: size factors of each of {n_groups - 1} comparisons",
    )
    cells = _cells_by_group(membership)
    found = ComparisonSizeFactors(
        np.full((n_groups - 1, len(cells[0])), np.nan),
        [np.full(len(members), np.nan) for members in cells[1:]],
    )
    if engine == "reference":
        everything = joined(list(source.row_blocks(scratch_dir=scratch_dir)))
        for k in range(1, n_groups):
            pair = cells_of(everything, np.isin(np.arange(source.shape[0]), [*cells[0], *cells[k]]))
            s = size_factors(pair, source.shape[1], method, scale=scale, engine=engine)
            order = np.sort(np.concatenate([cells[0], cells[k]]))
            found.control[k - 1] = s[np.searchsorted(order, cells[0])]
            found.perturbed[k - 1][:] = s[np.searchsorted(order, cells[k])]
    else:
        log_means = _log_means(source, cells, method, names, scratch_dir)
        for block in source.row_blocks(scratch_dir=scratch_dir):
            for k, first, part in _parts(block, cells):
                places = slice(first, first + part.n_major)
                if k > 0:
                    found.perturbed[k - 1][places] = cell_size_factors(
                        part, log_means[k - 1], method, n_threads
                    )
                    continue
                before = None
                for row, means in zip(found.control, log_means, strict=True):
                    before = cell_size_factors(part, means, method, n_threads, before)
                    row[places] = before
    for k, (control, perturbed) in enumerate(zip(found.control, found.perturbed, strict=True)):
        _require_all(source, names[k], method, (cells[0], control), (cells[k + 1], perturbed))
        if engine == "compiled" and (scale or method == "poscounts"):
            together = scaled(np.concatenate([control, perturbed]))
            control[:], perturbed[:] = together[: len(control)], together[len(control) :]
    return found


def _log_means(
    source: MatrixSource,
    cells: list[np.ndarray],
    method: SizeFactorMethod,
    names: tuple[str, ...],
    scratch_dir: Path | None,
) -> list[np.ndarray]:
    """Return the log means of the genes of every comparison (n_genes,)."""
    sums = [GeneSums.of_nothing(source.shape[1]) for _ in cells]
    for block in source.row_blocks(scratch_dir=scratch_dir):
        for k, _, part in _parts(block, cells):
            sums[k] = sums[k].add(part)
    found = []
    for name, one in zip(names, sums[1:], strict=True):
        try:
            found.append((sums[0] + one).log_means(method))
        except InputError as error:
            raise InputError(f"perturbation {name!r} with the control: {error}") from error
    return found


def _cells_by_group(membership: Membership) -> list[np.ndarray]:
    """Return the cells of every group in rising order."""
    cells = np.repeat(np.arange(len(membership.ptr) - 1), np.diff(membership.ptr))
    by_group = cells[np.argsort(membership.groups, kind="stable")]
    edges = np.concatenate([[0], np.cumsum(membership.sizes)])
    return [by_group[start:stop] for start, stop in pairwise(edges)]


def _parts(
    block: CompressedBlock, cells: list[np.ndarray]
) -> Iterator[tuple[int, int, CompressedBlock]]:
    """Yield each group's cells of a block, with the group and the place of the first in it."""
    lengths = np.diff(block.ptr)
    for k, members in enumerate(cells):
        first, last = np.searchsorted(members, [block.start, block.stop])
        if first == last:
            continue
        rows = members[first:last] - block.start
        ptr = np.concatenate([[0], np.cumsum(lengths[rows])]).astype(np.int64)
        at: slice | np.ndarray = slice(int(block.ptr[rows[0]]), int(block.ptr[rows[-1] + 1]))
        if rows[-1] - rows[0] >= len(rows):  # other cells are between them
            at = np.repeat(block.ptr[rows] - ptr[:-1], lengths[rows])
            at += np.arange(ptr[-1])
        yield k, int(first), CompressedBlock(0, len(rows), block.values[at], block.minor[at], ptr)


def _require_all(
    source: MatrixSource, name: str, method: str, *arms: tuple[np.ndarray, np.ndarray]
) -> None:
    for members, s in arms:
        unknown = ~np.isfinite(s)
        if unknown.any():
            cell = source.obs.index[int(members[np.flatnonzero(unknown)[0]])]
            raise InputError(
                f"{int(unknown.sum())} cells of {source.where} have no count that "
                f"size_factor_method={method!r} can use beside perturbation {name!r} (first: "
                f"{cell!r}); remove cells of so few counts (cx.pp.qc_summary), take another "
                "size_factor_method=, or give size_factors="
            )
