"""Whether tests keep their level on a user's own control cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crispyx._io.disk import reporting_full_disk
from crispyx._io.folders import scratch_folder
from crispyx._io.paths import prepare_output, resolve_output_path
from crispyx._io.record import write_record
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.writer import new_h5ad, write_slot
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.screen import resolve_screen
from crispyx._run.fingerprint import fingerprint, require_unchanged
from crispyx._run.lock import writer_lock
from crispyx.data.arguments import whole
from crispyx.de.calibration_methods import methods_of
from crispyx.de.calibration_study import Study
from crispyx.de.calibration_tables import (
    KIND,
    CalibrationResult,
    load_calibration,
)
from crispyx.errors import InputError
from crispyx.settings import settings


def calibration(
    data: Any,
    *,
    perturbation_column: str,
    control_label: str | None = None,
    gene_name_column: str | None = None,
    methods: Iterable[str] | Mapping[str, Mapping[str, Any]] = ("t_test", "wilcoxon", "calibrated"),
    n_splits: int = 10,
    n_groups: int = 10,
    min_cells_pert: int = 20,
    match_depth: bool = False,
    max_depth_shift: float = 0.1,
    batch_column: str | None = None,
    guide_column: str | None = None,
    layer: str | None = None,
    random_state: int = 0,
    output_dir: str | Path | None = None,
    data_name: str | None = None,
    output_path: str | Path | None = None,
    n_jobs: int | None = None,
    memory_limit_gb: float | None = None,
    force: bool = False,
    show_progress: bool = True,
) -> CalibrationResult:
    """Test control cells against control cells, and say which methods find what is not there.

    Groups are drawn from the control that have the sizes of the screen's own perturbations, and if
    asked their depths and batches. Nothing was done to them: a share of p-values below .05 that is
    above .05 is a fault of the method on these data. Where perturbations are shallower or deeper
    than the control, groups are also thinned to their depth, which shows what that alone does to
    each method. Perturbed cells are only counted, never tested.

    The control's counts are copied to files beside the output (or in ``settings.scratch_dir``),
    which are removed at the end; the matrix is streamed, and in memory are the p-values.

    Parameters
    ----------
    data : path, list of paths, crispyx.AnnData or anndata.AnnData
        Counts of the screen.
    perturbation_column : str
        obs column of labels, or ``"obsm/NAME"`` with the perturbations each cell carries.
    control_label : str or None
        Label of the control; None infers it.
    gene_name_column : str or None
        var column of gene names; None takes the index.
    methods : iterable of str, or mapping
        Any of "t_test", "wilcoxon", "calibrated", "nb_glm" (its documented defaults), "pydeseq2",
        "lrt" and "permutation"; "pydeseq2" needs a gene that all cells of a comparison express. A
        mapping gives names of its own one of these as "method", and further arguments that choose
        a test: ``{"clamped": {"method": "nb_glm", "optimization_method": "irls"}}``. The first two
        see counts per 10,000, log1p. All with their own filters of genes.
    n_splits : int
        Splits of the control.
    n_groups : int
        Pseudo-perturbations of a split, at most; half of the control, in every batch, is left.
    min_cells_pert : int
        Perturbations and guides with fewer cells are not imitated.
    match_depth : bool
        Thin every group binomially to the depth of its perturbation, where that is shallower.
    max_depth_shift : float
        A perturbation is shallower when the median total count of its cells is below 1 minus this
        of the control's, and deeper above the inverse.
    batch_column : str or None
        obs column of batches: groups get the batches of their perturbations, and every method
        compares within batches. "nb_glm" and "lrt" take them as a covariate; "pydeseq2" and the
        clamped iteration cannot and are refused. A method whose arguments have ``"batch_column":
        None`` is tested without batches.
    guide_column : str or None
        obs column of guides: every control guide is then also compared with the other ones.
    layer : str or None
        Layer with the counts, instead of X.
    random_state : int
        Seed. Numbers depend on it alone, not on threads, layout or blocks.
    output_dir : path or None
        Folder of the result; None takes the input's.
    data_name : str or None
        Name of the result; None makes ``crispyx_calibration.h5ad``.
    output_path : path or None
        Exact name of the result.
    n_jobs : int or None
        Threads.
    memory_limit_gb : float or None
        Memory of the whole process in GB.
    force : bool
        Compute again, and replace what is there.
    show_progress : bool
        Progress on standard error, where that is a terminal.

    Returns
    -------
    CalibrationResult
        Tables; ``summary()`` says in words what they hold. :func:`load_calibration` reads its file.

    Raises
    ------
    InputError, MissingColumnError, OutputExistsError
        X holds no counts; an unknown method, or one that knows no batches; too few cells; see the
        message.

    Notes
    -----
    See ``docs/calibration.md``. Genes of one split share their cells: intervals are those of
    independent tests, and somewhat too narrow where genes are correlated.
    """
    asked = methods_of(methods, batch_column)
    numbers = {
        "n_splits": whole("n_splits", n_splits, 1),
        "n_groups": whole("n_groups", n_groups, 1),
        "min_cells_pert": whole("min_cells_pert", min_cells_pert, 2),
        "random_state": whole("random_state", random_state, 0),
        "match_depth": bool(match_depth),
        "max_depth_shift": float(max_depth_shift),
    }
    if not 0 < max_depth_shift < 1:
        raise InputError(f"max_depth_shift is {max_depth_shift!r}; give a share, 0 to 1")
    if control_label == "rest":
        raise InputError("control_label='rest' names no control cells to split; give a label")
    with open_source(data, layer) as source:
        screen = resolve_screen(
            source,
            perturbation_column=perturbation_column,
            control_label=control_label,
            gene_name_column=gene_name_column,
        )
        output = _output(source, output_path, output_dir, data_name)
        parameters = {
            **numbers,
            "methods": {name: {"method": m, **given} for name, (m, given) in asked.items()},
            "perturbation_column": perturbation_column,
            "control_label": screen.control_label,
            "gene_name_column": gene_name_column,
            "batch_column": batch_column,
            "guide_column": guide_column,
            "labels": screen.checksum,
        }
        identity = fingerprint(KIND, source.identity(), parameters)
        prepare_output(output, source.paths)
        if can_reuse(output, identity, force=force):
            return load_calibration(output)
        with reporting_full_disk(output.parent, str(output)), writer_lock(output):
            with scratch_folder(output, settings.scratch_dir) as scratch:
                study = Study(source, screen, asked, numbers, scratch, n_jobs, memory_limit_gb)
                study.prepare(batch_column, guide_column)
                tables = study.run(show=None if show_progress else False)
            require_unchanged(identity)
            with new_h5ad(output) as file:
                write_slot(file, "uns", KIND, tables)
                write_record(file, identity)
    return load_calibration(output)


def _output(
    source: MatrixSource,
    output_path: str | Path | None,
    output_dir: str | Path | None,
    data_name: str | None,
) -> Path:
    if output_path is not None:
        return Path(output_path)
    if source.path is None and output_dir is None:
        raise InputError(
            f"{source.where} has no folder for the result; give output_path= or output_dir="
        )
    return resolve_output_path(
        source.path or "", suffix=KIND, output_dir=output_dir, data_name=data_name
    )
