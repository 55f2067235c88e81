"""Profiles of groups of cells: sums of counts, or means of log expression."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.screen import gene_names
from crispyx._jobs.shared_input import executor_for
from crispyx._jobs.tiles import TileStore
from crispyx._kernels.layout import Membership
from crispyx._stats.pseudobulk import Members, Transform, bootstrap_times
from crispyx.data.arguments import PathLike, whole
from crispyx.data.ondisk import AnnData
from crispyx.errors import CrispyxWarning, InputError
from crispyx.pseudobulk.files import Frame, write_profiles
from crispyx.pseudobulk.job import Job, Running, run
from crispyx.pseudobulk.totals import Totals

# method -> what is added of counts, and of other values.
METHODS: dict[str, tuple[Transform, Transform | None]] = {
    "sum": (Transform(whole=True), None),
    "mean_log1p": (Transform(log1p=True), Transform()),
}
SEPARATOR = "|"


@dataclass(frozen=True)
class Profiles:
    """Which cells make up which profile.

    Attributes
    ----------
    columns : dict of str to numpy.ndarray (n_profiles,) str
        Values of the grouping columns, then of other columns that have one value per profile.
    of_cell : numpy.ndarray (n_cells,) int64
        Profile of each cell, -1 for a cell in none.
    n_cells : numpy.ndarray (n_profiles,) int64
        Cells of each profile.
    names : numpy.ndarray (n_profiles,) str
        Values of the grouping columns, joined by ``|``.
    """

    columns: dict[str, np.ndarray]
    of_cell: np.ndarray
    n_cells: np.ndarray
    names: np.ndarray


def aggregate(
    data: Any,
    *,
    groupby: str | Sequence[str],
    method: str = "sum",
    layer: str | None = None,
    gene_name_column: str | None = None,
    min_cells: int = 5,
    bootstrap_size: int | None = None,
    random_state: int = 0,
    chunk_size: int | None = None,
    memory_limit_gb: float | None = None,
    n_jobs: int | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    output_path: PathLike | None = None,
    verbose: int | bool = False,
    resume: bool = False,
    force: bool = False,
    executor: Any = None,
) -> AnnData:
    """Add up, or average, the cells of every combination of values of obs columns.

    The file is streamed; the profiles are the same for every layout, thread count and budget, and
    sums are exact.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        The screen; an AnnData in memory needs ``output_path`` or ``output_dir``.
    groupby : str or sequence of str
        obs columns, such as ``["perturbation", "replicate"]``.
    method : {"sum", "mean_log1p"}
        Sums of counts (X int64), or means of ln(1 + count), not scaled by library size. Of a matrix
        with other values than counts the latter takes the mean as it is, with a warning; sums of
        it are an error.
    layer : str or None
        Layer to use instead of X.
    gene_name_column : str or None
        var column of gene names; None takes the index.
    min_cells : int
        Combinations with fewer cells are left out, with a warning.
    bootstrap_size : int or None
        Draw this many cells of each profile with replacement; None takes each cell once.
    random_state : int
        Seed of the draws. Those of a profile depend on the seed, its name and its cells only.
    chunk_size : int or None
        Cells read at a time (genes of a CSC file); speed and memory only.
    memory_limit_gb : float or None
        Memory of the whole process in GB; None uses half of what is free.
    n_jobs : int or None
        Threads; None takes ``crispyx.settings.n_threads``, else all cores, as does -1.
    output_dir : path or None
        Folder of the result; None takes the input's.
    data_name : str or None
        Name of the result; None makes ``crispyx_pseudobulk_sum.h5ad``
        (``crispyx_pseudobulk_mean_log1p.h5ad``).
    output_path : path or None
        Exact name of the result.
    verbose : bool
        Show a progress bar also where standard error is no terminal.
    resume : bool
        Continue an interrupted run from its checkpoint.
    force : bool
        Compute again even when the same result is already there.
    executor : {"threads", "processes"}, Executor, dask.distributed.Client or None
        What sums: ranges of cells where sums are integers, otherwise ranges of genes, which take
        the cells in their order; None takes ``crispyx.settings.executor``, else the threads of this
        process.

    Returns
    -------
    crispyx.AnnData
        Profiles (n_profiles, n_genes) in order of first appearance. obs: the grouping columns,
        ``n_cells``, ``n_cells_aggregated`` and ``sampled_with_replacement``, then the other columns
        of text that have one value in each profile. ``uns["crispyx_pseudobulk"]``: parameters.

    Raises
    ------
    InputError, MissingColumnError, OutputExistsError, MemoryBudgetError, CheckpointError
        Values that are no counts (the message names cell and gene), no such column, nothing left.

    Notes
    -----
    Reference: ``reference.pseudobulk.group_totals``.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}; choose one of {tuple(METHODS)}")
    keys = [groupby] if isinstance(groupby, str) else [str(name) for name in groupby]
    if not keys or len(set(keys)) < len(keys):
        raise InputError(f"groupby is {groupby!r}; give one obs column or several different ones")
    seed = whole("random_state", random_state, 0)
    draws = None if bootstrap_size is None else whole("bootstrap_size", bootstrap_size, 1)
    least = whole("min_cells", min_cells, 1)
    with open_source(data, layer) as source:
        profiles = find_profiles(source, keys, least)
        genes = Frame(gene_names(source, gene_name_column), gene_name_column or "_index", {})
        counts, otherwise = METHODS[method]
        settings_of_result = {
            "groupby": keys,
            "method": method,
            "min_cells": least,
            "bootstrap_size": -1 if draws is None else draws,
            "random_state": seed,
        }

        def write(
            output: Path, store: TileStore, totals: Totals, fingerprint: Mapping[str, Any]
        ) -> None:
            warn_unless_counts(source, totals, "the means are those of the values as they are")
            _write(output, store, profiles, genes, draws, settings_of_result, fingerprint)

        job = Job(
            f"pseudobulk_{method}",
            _members(profiles, draws, seed),
            counts,
            otherwise,
            {
                **settings_of_result,
                "layer": layer,
                "gene_name_column": gene_name_column,
                "profiles": _checksum(profiles),
            },
            write,
            n_tables=1,
        )
        running = Running(
            chunk_size,
            output_dir,
            data_name,
            output_path,
            memory_limit_gb,
            n_jobs,
            resume,
            force,
            True if verbose else None,
            executor_for(executor, data),
        )
        return run(source, data, layer, job, running)


def find_profiles(source: MatrixSource, keys: Sequence[str], min_cells: int) -> Profiles:
    """Return the profiles of all combinations of labels that enough cells have.

    Raises
    ------
    MissingColumnError, InputError
        No such column; no combination has ``min_cells`` cells.
    """
    labels = [as_labels(source.obs.column(key)) for key in keys]
    known = np.all([[label is not None for label in column] for column in labels], axis=0)
    where = source.path or source.where
    if not known.all():
        warnings.warn(
            f"{np.count_nonzero(~known)} of {len(known)} cells have no label in obs columns "
            f"{', '.join(map(repr, keys))} of {where}; they are left out",
            CrispyxWarning,
            stacklevel=3,
        )
    number: dict[tuple[str, ...], int] = {}
    of_cell = np.full(len(known), -1, dtype=np.int64)
    combinations = list(zip(*labels, strict=True))
    for cell in np.flatnonzero(known):
        of_cell[cell] = number.setdefault(combinations[cell], len(number))
    sizes = np.bincount(of_cell[known], minlength=len(number))
    kept = sizes >= min_cells
    if not kept.any():
        raise InputError(
            f"none of the {len(number)} combinations of {', '.join(map(repr, keys))} in {where} "
            f"has min_cells={min_cells} cells (the largest has {sizes.max(initial=0)})"
        )
    if not kept.all():
        warnings.warn(
            f"{np.count_nonzero(~kept)} of {len(kept)} profiles have fewer than "
            f"min_cells={min_cells} cells and are left out",
            CrispyxWarning,
            stacklevel=3,
        )
    new = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
    of_cell = new[of_cell]
    values = np.array([key for key, k in number.items() if kept[k]], dtype=object)
    columns = {key: values[:, i] for i, key in enumerate(keys)}
    columns |= _shared_columns(source, of_cell, int(kept.sum()), keys)
    names = np.array([SEPARATOR.join(row) for row in values], dtype=object)
    if len(set(names)) < len(names):
        raise InputError(
            f"labels of {', '.join(map(repr, keys))} in {where} hold {SEPARATOR!r}, and two "
            "combinations get one name; rename them"
        )
    return Profiles(columns, of_cell, sizes[kept], names)


def _shared_columns(
    source: MatrixSource, of_cell: np.ndarray, n_profiles: int, keys: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the columns of text with one value in each profile, such as a guide's target."""
    inside = np.flatnonzero(of_cell >= 0)
    first = np.full(n_profiles, -1)
    first[of_cell[inside][::-1]] = inside[::-1]
    shared = {}
    for name in source.obs.columns:
        if name in keys:
            continue
        column = source.obs.column(name)
        if column.dtype.kind not in "OUS":
            continue
        labels = as_labels(column)
        values = labels[first]
        if None not in values and bool(np.all(labels[inside] == values[of_cell[inside]])):
            shared[name] = values
    return shared


def _members(profiles: Profiles, draws: int | None, seed: int) -> Members:
    membership = Membership.from_labels(profiles.of_cell, len(profiles.names))
    if draws is None:
        return Members.once(membership)
    times = np.zeros(len(membership.groups), dtype=np.int32)
    for k, name in enumerate(profiles.names):
        inside = membership.groups == k
        times[inside] = bootstrap_times(int(membership.sizes[k]), draws, seed, name)
    return Members(membership, times)


def _checksum(profiles: Profiles) -> int:
    return zlib.crc32("\0".join(profiles.names).encode(), zlib.crc32(profiles.of_cell.data))


def _write(
    output: Path,
    store: TileStore,
    profiles: Profiles,
    genes: Frame,
    draws: int | None,
    settings_of_result: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> None:
    whole_numbers = settings_of_result["method"] == "sum"
    n_added = profiles.n_cells if draws is None else np.full(len(profiles.names), draws)

    def strip(start: int, stop: int) -> dict[str, np.ndarray]:
        rows = store.rows("total", start, stop)
        return {"X": rows if whole_numbers else rows / n_added[start:stop, None]}

    keys = settings_of_result["groupby"]
    columns = {
        **{key: profiles.columns[key] for key in keys},
        "n_cells": profiles.n_cells,
        "n_cells_aggregated": n_added,
        "sampled_with_replacement": np.full(len(n_added), draws is not None),
        **{name: column for name, column in profiles.columns.items() if name not in keys},
    }
    write_profiles(
        output,
        Frame(profiles.names, "pseudobulk_id", columns),
        genes,
        {"X": np.int64 if whole_numbers else np.float64},
        strip,
        8 * len(genes.index),
        {"crispyx_pseudobulk": settings_of_result},
        fingerprint,
    )


def warn_unless_counts(source: MatrixSource, totals: Totals, consequence: str) -> None:
    """Warn when the matrix holds other values than counts, and say what that means."""
    if not totals.holds_counts:
        warnings.warn(
            f"{source.where} does not hold counts: {consequence}", CrispyxWarning, stacklevel=5
        )
