"""Effects within batches: of plain profiles, and of normalized ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.source import open_source
from crispyx._jobs.shared_input import executor_for
from crispyx._jobs.tiles import TileStore
from crispyx._stats.pseudobulk import Members
from crispyx.data.arguments import PathLike, positive, whole
from crispyx.data.ondisk import AnnData
from crispyx.errors import CrispyxWarning, InputError
from crispyx.pseudobulk.differences import (
    Differences,
    as_it_is,
    find_differences,
    perturbation_frame,
)
from crispyx.pseudobulk.expression import LOG_OF_MEAN, MEAN_OF_LOGS, ProfileMethod, effects_job
from crispyx.pseudobulk.files import Frame, write_profiles
from crispyx.pseudobulk.job import Job, Running, run
from crispyx.pseudobulk.profiles import METHODS, SEPARATOR, warn_unless_counts
from crispyx.pseudobulk.totals import Totals
from crispyx.settings import Engine, settings


def effects(
    data: Any,
    *,
    perturbation_column: str,
    batch_column: str | None = None,
    control_label: str | None = None,
    aggregate_batches: bool = False,
    layer: str | None = None,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
    min_cells: int = 5,
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
    r"""Compute mean log expression, perturbed minus control, within every batch.

    The profiles are those of ``aggregate(method="mean_log1p")``: cells are not scaled to one total.
    ``aggregate_batches`` averages the differences of a perturbation over its batches with weights

    .. math::  w_b \propto \frac{n_{0b}\, n_{1b}}{n_{0b} + n_{1b}}

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        The screen; an AnnData in memory needs ``output_path`` or ``output_dir``.
    perturbation_column, control_label, gene_name_column, perturbations
        As in :func:`crispyx.pseudobulk.compute_average_log_expression`.
    batch_column : str or None
        obs column of batches; None takes all cells as one.
    aggregate_batches : bool
        One row per perturbation instead of one per perturbation and batch.
    min_cells : int
        A batch where one of the arms has fewer cells takes no part for that perturbation.
    layer, chunk_size, memory_limit_gb, n_jobs, output_dir, data_name, output_path, verbose
        As in :func:`aggregate`; without names given the result is ``crispyx_batch_effects.h5ad``
        (``crispyx_aggregated_effects.h5ad``).
    resume, force, executor
        Likewise.

    Returns
    -------
    crispyx.AnnData
        X: perturbed - control; layers ``target_profile`` and ``reference_profile``. obs of rows per
        batch: the perturbation, the batch, ``n_cells_target`` and ``n_cells_reference``; of rows
        per perturbation: ``n_batches_used``, and NaN in X where that is 0.

    Raises
    ------
    InputError, MissingColumnError, OutputExistsError, MemoryBudgetError, CheckpointError
        Negative, NaN or infinite values; no batch has enough cells of both arms.

    Notes
    -----
    Reference: ``reference.pseudobulk``.
    """
    engine = settings.engine
    least = whole("min_cells", min_cells, 1)
    kind = "aggregated_effects" if aggregate_batches else "batch_effects"
    with open_source(data, layer) as source:
        found = find_differences(
            source,
            perturbation_column,
            control_label,
            gene_name_column,
            perturbations,
            batch_column,
        )
        used = found.weights(engine, least) > 0
        if not used.any():
            raise InputError(
                f"no perturbation has min_cells={least} cells in a batch with as many of the "
                f"control {found.screen.control_label!r}; lower min_cells"
            )
        if not used.any(axis=1).all():
            n_lost = np.count_nonzero(~used.any(axis=1))
            warnings.warn(
                f"{n_lost} perturbations have min_cells={least} cells in no batch that also has "
                "that many of the control; they have no effect",
                CrispyxWarning,
                stacklevel=2,
            )
        notes = {
            "perturbation_column": perturbation_column,
            "batch_column": batch_column or "",
            "reference": found.screen.control_label,
            "method": "mean_log1p",
            "min_cells": least,
            "aggregate_batches": aggregate_batches,
        }

        def write(
            output: Path, store: TileStore, totals: Totals, fingerprint: Mapping[str, Any]
        ) -> None:
            warn_unless_counts(source, totals, "the means are those of the values as they are")
            table = _per_perturbation if aggregate_batches else _per_batch
            table(output, store, found, least, notes, fingerprint, engine)

        job = Job(
            kind,
            Members.once(found.batches.split(found.screen.membership)),
            *METHODS["mean_log1p"],
            {
                **notes,
                "layer": layer,
                "gene_name_column": gene_name_column,
                "labels": found.screen.checksum,
                "batches": found.batches.checksum,
            },
            write,
            n_tables=3,
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


def _per_perturbation(
    output: Path,
    store: TileStore,
    found: Differences,
    min_cells: int,
    notes: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    engine: Engine,
) -> None:
    weights = found.weights(engine, min_cells)

    def strip(start: int, stop: int) -> dict[str, np.ndarray]:
        difference, low, high = found.strip(
            start, stop, store=store, profile=as_it_is, weights=weights, engine=engine
        )
        return {"X": difference, "target_profile": high, "reference_profile": low}

    n_used = np.count_nonzero(weights > 0, axis=1)
    obs = perturbation_frame(found, n_batches_used=n_used)
    _write(output, obs, found, strip, notes, fingerprint)


def _per_batch(
    output: Path,
    store: TileStore,
    found: Differences,
    min_cells: int,
    notes: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    engine: Engine,
) -> None:
    group, batch = np.nonzero(found.weights(engine, min_cells) > 0)
    labels = np.array(found.screen.groups, dtype=object)[group]
    names = np.array(found.batches.names, dtype=object)[batch]
    columns = {found.screen.perturbation_column: labels}
    index = labels
    if found.batches.column is not None:
        columns[found.batches.column] = names
        index = labels + SEPARATOR + names
    columns["n_cells_target"] = found.n_cells[batch, 1 + group]
    columns["n_cells_reference"] = found.n_cells[batch, 0]
    control = found.means(store, 0, 1)[:, 0]

    def strip(start: int, stop: int) -> dict[str, np.ndarray]:
        high = np.array([found.mean(store, 1 + group[r], batch[r]) for r in range(start, stop)])
        low = control[batch[start:stop]]
        return {"X": high - low, "target_profile": high, "reference_profile": low}

    _write(output, Frame(index, "effect_id", columns), found, strip, notes, fingerprint)


def _write(
    output: Path,
    obs: Frame,
    found: Differences,
    strip: Any,
    notes: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> None:
    write_profiles(
        output,
        obs,
        found.genes,
        dict.fromkeys(("X", "target_profile", "reference_profile"), np.float64),
        strip,
        8 * len(found.screen.genes) * (2 * found.n_batches + 6),
        {"crispyx_pseudobulk_effects": notes},
        fingerprint,
    )


def normalized_effects(
    data: Any,
    *,
    perturbation_column: str,
    control_label: str | None = None,
    method: str = "mean_log1p",
    baseline_count: float = 1.0,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
    batch_column: str | None = None,
    layer: str | None = None,
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
    r"""Compute effects on depth-normalized expression, perturbed minus control within batches.

    .. math::

        \delta_{kg} = \sum_b w_{kb} \left(p_{kbg} - p_{0bg}\right), \qquad
        w_{kb} \propto \frac{n_{0b}\, n_{kb}}{n_{0b} + n_{kb}}, \qquad \sum_b w_{kb} = 1

    with p the mean of ln(1 + counts per 10,000) (``"mean_log1p"``), or the logarithm of the mean,
    ln(1 + baseline_count * mean counts per 10,000) (``"log_mean"``). Batches without one of the
    arms weigh nothing. Without batches these are the effects of
    :func:`crispyx.pseudobulk.compute_average_log_expression` and
    :func:`crispyx.pseudobulk.compute_pseudobulk_expression`.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        Counts; an AnnData in memory needs ``output_path`` or ``output_dir``.
    perturbation_column, control_label, gene_name_column, perturbations
        As in :func:`crispyx.pseudobulk.compute_average_log_expression`.
    method : {"mean_log1p", "log_mean"}
        Profile.
    baseline_count : float
        Factor of the mean within the logarithm (``"log_mean"``).
    batch_column : str or None
        obs column of batches; None takes all cells as one.
    layer, chunk_size, memory_limit_gb, n_jobs, output_dir, data_name, output_path, verbose
        As in :func:`aggregate`; without names given the result is
        ``crispyx_normalized_effects.h5ad``.
    resume, force, executor
        Likewise.

    Returns
    -------
    crispyx.AnnData
        X (n_perturbations, n_genes): effects, NaN where no batch has both arms;
        ``layers["perturbation_profile"]``, with batches also ``layers["control_profile_matched"]``
        (both weighted); ``uns["control_profile"]``: that of all control cells.

    Raises
    ------
    InputError, MissingColumnError, OutputExistsError, MemoryBudgetError, CheckpointError
        Negative, NaN or infinite values; for ``"log_mean"`` any value that is no count.

    Notes
    -----
    Reference: ``reference.pseudobulk``.
    """
    if method not in ("mean_log1p", "log_mean"):
        raise InputError(f"method is {method!r}; choose 'mean_log1p' or 'log_mean'")
    notes: dict[str, Any] = {"method": method}
    if method == "log_mean":
        notes["baseline_count"] = positive("baseline_count", baseline_count)
    profile = ProfileMethod(
        "normalized_effects",
        LOG_OF_MEAN if method == "log_mean" else MEAN_OF_LOGS,
        notes.get("baseline_count"),
        "perturbation_profile",
        "control_profile",
        notes,
    )
    with open_source(data, layer) as source:
        found = find_differences(
            source,
            perturbation_column,
            control_label,
            gene_name_column,
            perturbations,
            batch_column,
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
        return run(source, data, layer, effects_job(source, found, profile, layer), running)
