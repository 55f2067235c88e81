"""The documented profiles of perturbations: mean of logs, and log of the mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.source import open_source
from crispyx._jobs.shared_input import executor_for
from crispyx._jobs.tiles import TileStore
from crispyx._stats.pseudobulk import Members, Transform
from crispyx.data.arguments import PathLike, positive
from crispyx.data.ondisk import AnnData
from crispyx.pseudobulk.differences import (
    Differences,
    as_it_is,
    find_differences,
    log_profile,
    perturbation_frame,
)
from crispyx.pseudobulk.files import write_profiles
from crispyx.pseudobulk.job import Job, Running, run
from crispyx.pseudobulk.profiles import warn_unless_counts
from crispyx.pseudobulk.totals import Totals
from crispyx.settings import settings

TARGET_SUM = 1e4
MEAN_OF_LOGS = (Transform(TARGET_SUM, log1p=True), Transform())
LOG_OF_MEAN = (Transform(TARGET_SUM), None)


@dataclass(frozen=True)
class ProfileMethod:
    """A profile of a group of cells and the names it has in a file.

    Attributes
    ----------
    kind : str
        Suffix of the output.
    transforms : tuple of Transform
        What is averaged: of counts, and of other values.
    baseline_count : float or None
        Factor of the mean within the logarithm; None takes the mean as it is.
    layer, control : str
        Names of the perturbations' profiles (layer) and of the control's (uns).
    notes : mapping
        Further entries of uns.
    """

    kind: str
    transforms: tuple[Transform, Transform | None]
    baseline_count: float | None
    layer: str
    control: str
    notes: Mapping[str, Any]


def compute_average_log_expression(
    data: Any,
    *,
    perturbation_column: str,
    control_label: str | None = None,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
    chunk_size: int | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    layer: str | None = None,
    output_path: PathLike | None = None,
    memory_limit_gb: float | None = None,
    resume: bool = False,
    force: bool = False,
    executor: Any = None,
) -> AnnData:
    r"""Compute the mean log-normalized expression of every perturbation and its effect.

    .. math::

        \bar\ell_{kg} = \frac{1}{n_k} \sum_{i \in k}
        \ln\left(1 + \frac{10^4\, y_{ig}}{s_i}\right), \qquad
        \delta_{kg} = \bar\ell_{kg} - \bar\ell_{0g}

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        Counts; an AnnData in memory needs ``output_path`` or ``output_dir``. Values that are not
        all whole numbers are taken to be log-normalized already, with a warning.
    perturbation_column : str
        obs column of labels, or ``"obsm/NAME"``.
    control_label : str or None
        Label of the control; None infers it.
    gene_name_column : str or None
        var column of gene names; None takes the index.
    perturbations : iterable of str or None
        Perturbations, which become the rows in this order; None takes all.
    chunk_size : int or None
        Cells read at a time (genes of a CSC file); speed and memory only.
    output_dir : path or None
        Folder of the result; None takes the input's.
    data_name : str or None
        Name of the result; None makes ``crispyx_avg_log_effects.h5ad``.
    layer : str or None
        Layer to use instead of X.
    output_path : path or None
        Exact name of the result.
    memory_limit_gb : float or None
        Memory of the whole process in GB; None uses half of what is free.
    resume : bool
        Continue an interrupted run from its checkpoint.
    force : bool
        Compute again even when the same result is already there.
    executor : {"threads", "processes"}, Executor, dask.distributed.Client or None
        As in :func:`crispyx.pseudobulk.aggregate`.

    Returns
    -------
    crispyx.AnnData
        X (n_perturbations, n_genes) float64: perturbed - control, natural log units;
        ``layers["perturbation_mean"]``; ``uns["control_mean"]`` (n_genes,).

    Raises
    ------
    InputError, MissingColumnError, OutputExistsError, MemoryBudgetError, CheckpointError
        Negative, NaN or infinite values (the message names cell and gene); control absent.

    Notes
    -----
    Reference: ``reference.pseudobulk``.
    """
    method = ProfileMethod(
        "avg_log_effects", MEAN_OF_LOGS, None, "perturbation_mean", "control_mean", {}
    )
    return _effects_of_screen(
        data,
        method,
        (perturbation_column, control_label, gene_name_column, perturbations),
        layer,
        Running(
            chunk_size,
            output_dir,
            data_name,
            output_path,
            memory_limit_gb,
            resume=resume,
            force=force,
            executor=executor_for(executor, data),
        ),
    )


def compute_pseudobulk_expression(
    data: Any,
    *,
    perturbation_column: str,
    control_label: str | None = None,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
    baseline_count: float = 1.0,
    chunk_size: int | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    layer: str | None = None,
    output_path: PathLike | None = None,
    memory_limit_gb: float | None = None,
    resume: bool = False,
    force: bool = False,
    executor: Any = None,
) -> AnnData:
    r"""Compute pseudo-bulk log fold changes of every perturbation against the control.

    .. math::

        \beta_{kg} = \ln\left(1 + \frac{b}{n_k} \sum_{i \in k}
        \frac{10^4\, y_{ig}}{s_i}\right), \qquad
        \delta_{kg} = \beta_{kg} - \beta_{0g}

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        Counts; an AnnData in memory needs ``output_path`` or ``output_dir``.
    perturbation_column, control_label, gene_name_column, perturbations, chunk_size, output_dir
        As in :func:`compute_average_log_expression`.
    layer, output_path, memory_limit_gb, resume, force, executor
        Likewise.
    baseline_count : float
        b, the factor of the mean within the logarithm: the larger it is, the less genes of low
        expression are shrunk towards 0.
    data_name : str or None
        Name of the result; None makes ``crispyx_pseudobulk_effects.h5ad``.

    Returns
    -------
    crispyx.AnnData
        X (n_perturbations, n_genes) float64: perturbed - control, natural log units;
        ``layers["perturbation_bulk"]``; ``uns["control_bulk"]`` (n_genes,) and
        ``uns["baseline_count"]``.

    Raises
    ------
    InputError, MissingColumnError, OutputExistsError, MemoryBudgetError, CheckpointError
        A value that is no count (the message names cell and gene); control absent.

    Notes
    -----
    Reference: ``reference.pseudobulk``.
    """
    baseline = positive("baseline_count", baseline_count)
    method = ProfileMethod(
        "pseudobulk_effects",
        LOG_OF_MEAN,
        baseline,
        "perturbation_bulk",
        "control_bulk",
        {"baseline_count": baseline},
    )
    return _effects_of_screen(
        data,
        method,
        (perturbation_column, control_label, gene_name_column, perturbations),
        layer,
        Running(
            chunk_size,
            output_dir,
            data_name,
            output_path,
            memory_limit_gb,
            resume=resume,
            force=force,
            executor=executor_for(executor, data),
        ),
    )


def _effects_of_screen(
    data: Any,
    method: ProfileMethod,
    selection: tuple[str, str | None, str | None, Iterable[str] | None],
    layer: str | None,
    running: Running,
) -> AnnData:
    with open_source(data, layer) as source:
        found = find_differences(source, *selection)
        job = effects_job(source, found, method, layer)
        return run(source, data, layer, job, running)


def effects_job(source: Any, found: Differences, method: ProfileMethod, layer: str | None) -> Job:
    """Return the job whose result holds the effects of all perturbations, within batches if any."""
    engine = settings.engine
    baseline = method.baseline_count
    profile = as_it_is if baseline is None else log_profile(baseline, engine)
    weights = found.weights(engine)
    in_batches = found.batches.column is not None

    def write(
        output: Path, store: TileStore, totals: Totals, fingerprint: Mapping[str, Any]
    ) -> None:
        warn_unless_counts(source, totals, "its values are taken to be log-normalized already")

        def strip(start: int, stop: int) -> dict[str, np.ndarray]:
            difference, low, high = found.strip(
                start, stop, store=store, profile=profile, weights=weights, engine=engine
            )
            tables = {"X": difference, method.layer: high}
            return tables | ({"control_profile_matched": low} if in_batches else {})

        tables = ["X", method.layer] + ["control_profile_matched"] * in_batches
        control = profile(found.control_mean(store)[None])[0]
        notes = {method.control: control, **method.notes}
        if in_batches:
            names = np.array(found.batches.names, dtype=object)
            notes |= {"batch_column": found.batches.column, "batch_ids": names}
        write_profiles(
            output,
            perturbation_frame(found),
            found.genes,
            dict.fromkeys(tables, np.float64),
            strip,
            8 * len(found.screen.genes) * (2 * found.n_batches + 6),
            notes,
            fingerprint,
        )

    return Job(
        method.kind,
        Members.once(found.batches.split(found.screen.membership)),
        *method.transforms,
        {
            "perturbation_column": found.screen.perturbation_column,
            "control_label": found.screen.control_label,
            "gene_name_column": found.screen.gene_name_column,
            "labels": found.screen.checksum,
            "batch_column": found.batches.column,
            "batches": found.batches.checksum,
            "layer": layer,
            **method.notes,
        },
        write,
        n_tables=3 if in_batches else 2,
    )
