"""One way through for every test that compares perturbations with the control gene by gene."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.paths import check_output_name, prepare_output, resolve_output_path
from crispyx._io.scanpy_format import require_room
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.driver import run_units
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.plan import plan_genes
from crispyx._jobs.results import Column, write_result
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx._jobs.tiles import TileStore
from crispyx._kernels.layout import GroupedGenes
from crispyx._run.fingerprint import fingerprint
from crispyx._run.lock import writer_lock
from crispyx._run.threads import resolve_threads
from crispyx._stats.expression_filter import ExpressionThresholds, tested_pairs
from crispyx._stats.moments import Arm, comparison_arms
from crispyx._stats.multiple_testing import CORRECTIONS, SCOPES, Correction, Scope, adjust
from crispyx._stats.welch import log_fold_changes
from crispyx.de.results import RankGenesGroupsResult
from crispyx.de.storage import load_result
from crispyx.errors import CrispyxWarning, InputError, InputTypeError
from crispyx.settings import Engine, settings

Tile = dict[str, np.ndarray]


@dataclass(frozen=True)
class Selection:
    """Which cells and genes are compared."""

    perturbation_column: str
    control_label: str | None
    gene_name_column: str | None
    perturbations: tuple[str, ...] | None
    layer: str | None


@dataclass(frozen=True)
class Rules:
    """What is tested and how p-values are corrected."""

    thresholds: ExpressionThresholds
    min_cells_expressed: int
    min_cells_pert: int
    corr_method: Correction
    corr_scope: Scope


@dataclass(frozen=True)
class Running:
    """How the work is done and where it goes: never a number."""

    output_path: Path | None
    output_dir: Path | None
    data_name: str | None
    width: int | None
    cell_chunk_size: int | None
    n_jobs: int | None
    memory_limit_gb: float | None
    checkpoint_interval: int | None
    resume: bool
    force: bool
    scanpy_format: bool
    show: bool | None


class Method(Protocol):
    """A test: what it is called, what it writes, and one block of it."""

    name: str
    takes_variance: bool

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of its own that change numbers."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """Tables of the result, ``"X"`` and layers, but for the adjusted p-values."""

    def prepare(self, stream: GeneStream) -> None:
        """Look at the data before the first block."""

    def test(
        self, block: GroupedGenes, arms: tuple[Arm, Arm], engine: Engine, n_threads: int
    ) -> Tile:
        """Return effect_size, z_score, pvalue and fields of its own (n_groups, n_genes)."""

    def finish(self, stream: GeneStream, store: TileStore) -> None:
        """Warn about what only the whole matrix, or the whole result, shows."""


def select(
    perturbation_column: str | None,
    groupby: str | None,
    control_label: str | None,
    reference: str | None,
    gene_name_column: str | None,
    perturbations: Iterable[str] | None,
    layer: str | None,
) -> Selection:
    """Fold the documented selection arguments and their scanpy aliases.

    Raises
    ------
    TypeError
        Both names of one argument, or no column.
    """
    for name, alias, values in (
        ("perturbation_column", "groupby", (perturbation_column, groupby)),
        ("control_label", "reference", (control_label, reference)),
    ):
        if None not in values:
            raise InputTypeError(
                f"{name!r} and {alias!r} are two names of one argument; give one of them"
            )
    column = perturbation_column if perturbation_column is not None else groupby
    if column is None:
        raise InputTypeError(
            "say which obs column holds the labels: perturbation_column= (or groupby=)"
        )
    if isinstance(perturbations, str):
        raise InputError(f"perturbations is the text {perturbations!r}; give a list of labels")
    return Selection(
        perturbation_column=column,
        control_label=control_label if control_label is not None else reference,
        gene_name_column=gene_name_column,
        perturbations=None if perturbations is None else tuple(map(str, perturbations)),
        layer=layer,
    )


def rules(
    min_pct: tuple[float, float, float | None],
    min_mean: tuple[float, float],
    min_cells_expressed: int,
    min_cells_pert: int,
    correction: tuple[str, str],
) -> Rules:
    """Fold and check the documented thresholds.

    ``min_pct`` is (control, perturbed, both), ``correction`` is (method, scope).

    Raises
    ------
    InputError
        An unknown correction, or a threshold that is negative or NaN.
    """
    control, perturbed, both = min_pct
    if both is not None:
        control = perturbed = both
    given = {
        "min_pct_ctrl": control,
        "min_pct_pert": perturbed,
        "min_mean_ctrl": min_mean[0],
        "min_mean_pert": min_mean[1],
        "min_cells_expressed": min_cells_expressed,
        "min_cells_pert": min_cells_pert,
    }
    for name, value in given.items():
        if not value >= 0:
            raise InputError(f"{name} is {value!r}; give a number >= 0 (0 switches it off)")
        if name.startswith("min_pct_") and value > 1:
            raise InputError(f"{name} is {value!r}; give a fraction of cells, from 0 to 1")
    for name, choice, allowed in zip(
        ("corr_method", "corr_scope"), correction, (CORRECTIONS, SCOPES), strict=True
    ):
        if choice not in allowed:
            raise InputError(f"{name} is {choice!r}; choose one of {allowed}")
    return Rules(
        ExpressionThresholds(control, perturbed, *min_mean),
        int(min_cells_expressed),
        int(min_cells_pert),
        *correction,  # type: ignore[arg-type]
    )


def compare(
    data: Any, method: Method, selection: Selection, limits: Rules, running: Running
) -> RankGenesGroupsResult:
    """Run a method over all genes and perturbations, or reload its result.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        The screen.
    method : Method
        The test.
    selection, limits, running
        The folded arguments of the documented door.
    """
    engine = settings.engine
    with open_source(data, selection.layer) as source:
        screen = resolve_screen(
            source,
            perturbation_column=selection.perturbation_column,
            control_label=selection.control_label,
            gene_name_column=selection.gene_name_column,
            perturbations=selection.perturbations,
        )
        if running.scanpy_format:
            require_room(screen.groups)
        output = _output(source, method.name, running)
        identity = fingerprint(
            method.name,
            source.identity(),
            {
                **asdict(limits),
                **method.parameters,
                "perturbation_column": screen.perturbation_column,
                "control_label": screen.control_label,
                "gene_name_column": screen.gene_name_column,
                "perturbations": selection.perturbations,
                "labels": screen.checksum,
                "scanpy_format": running.scanpy_format,
                "engine": engine,
            },
        )
        inputs = (source.path,) if source.path else ()
        check_output_name(output, inputs)
        if can_reuse(output, identity, force=running.force):
            return load_result(output)
        columns = method.columns.values()
        per_pair = sum(np.dtype(column.dtype).itemsize for column in columns)
        needed = len(screen.groups) * len(screen.genes) * (per_pair + 8)  # adjusted p-values
        prepare_output(output, inputs, needed)
        with writer_lock(output):
            _compute(source, screen, method, limits, running, output, identity, engine)
    return load_result(output)


def _output(source: MatrixSource, suffix: str, running: Running) -> Path:
    if running.output_path is not None:
        return Path(running.output_path)
    if source.path is None and running.output_dir is None:
        raise InputError(
            "an AnnData in memory has no folder for the result; give output_path= or output_dir="
        )
    return resolve_output_path(
        source.path or "",
        suffix=suffix,
        output_dir=running.output_dir,
        data_name=running.data_name,
    )


def _compute(
    source: MatrixSource,
    screen: Screen,
    method: Method,
    limits: Rules,
    running: Running,
    output: Path,
    identity: Mapping[str, Any],
    engine: Engine,
) -> None:
    shape = (len(screen.groups), source.shape[1])
    fields = {column.field: np.dtype(column.dtype) for column in method.columns.values()}
    tile_bytes = sum(kind.itemsize for kind in fields.values())
    n_threads = resolve_threads(running.n_jobs)
    plan = plan_genes(
        source,
        screen,
        output=output,
        bytes_per_result=4 * tile_bytes,
        memory_limit_gb=running.memory_limit_gb,
        width=running.width,
    )
    _warn_about_sizes(screen, limits)
    units = -(-shape[1] // plan.width)
    store = TileStore(
        output,
        fields,
        shape,
        plan.width,
        Checkpoint(output, identity, units, running.checkpoint_interval),
    )
    stream = GeneStream(
        source,
        screen.membership,
        scratch_dir=plan.scratch_dir,
        n_threads=n_threads,
        max_cells=running.cell_chunk_size,
        in_place=plan.in_place,
    )
    try:
        method.prepare(stream)
        run_units(
            store,
            stream.grouped,
            partial(_tile, method=method, limits=limits, engine=engine, n_threads=n_threads),
            resume=running.resume,
            label=method.name,
            show=running.show,
        )
        method.finish(stream, store)
        _write(output, store, screen, method, limits, running, identity, engine)
    finally:
        stream.close()
        store.close()


def _tile(
    block: GroupedGenes, *, method: Method, limits: Rules, engine: Engine, n_threads: int
) -> Tile:
    """Test one block; ``docs/methods/expression_filter.md`` has the degenerate cases."""
    control, perturbed = comparison_arms(
        block, engine, n_threads, with_variance=method.takes_variance
    )
    tile = method.test(block, (control, perturbed), engine, n_threads)
    tile["logfoldchanges"] = log_fold_changes(control, perturbed, engine, n_threads)
    few = control.n_expressing + perturbed.n_expressing < limits.min_cells_expressed
    untested = ~tested_pairs(control, perturbed, limits.thresholds, engine)
    untested |= perturbed.n_cells < limits.min_cells_pert
    for mask, value, p in ((few, 0.0, 1.0), (untested, np.nan, np.nan)):
        if mask.any():
            for name, table in tile.items():
                table[mask] = p if name == "pvalue" else value
    tile["pts"] = perturbed.fraction_expressing
    tile["pts_rest"] = np.broadcast_to(control.fraction_expressing, perturbed.mean.shape)
    return tile


def _write(
    output: Path,
    store: TileStore,
    screen: Screen,
    method: Method,
    limits: Rules,
    running: Running,
    identity: Mapping[str, Any],
    engine: Engine,
) -> None:
    columns = dict(method.columns)
    x = columns.pop("X")
    correct = partial(
        adjust,
        method=limits.corr_method,
        scope=limits.corr_scope,
        engine=engine,
        n_threads=resolve_threads(running.n_jobs),
    )
    columns["pvalue_adj"] = Column(
        np.float64, "pvalue", correct, all_rows=limits.corr_scope == "screen"
    )
    uns = {
        "method": method.name,
        "control_label": screen.control_label,
        "perturbation_column": screen.perturbation_column,
        "pvalue_correction": limits.corr_method,
        "pvalue_correction_scope": limits.corr_scope,
        **method.parameters,
    }
    write_result(
        output,
        store,
        screen,
        x=x,
        layers=columns,
        uns=uns,
        fingerprint=identity,
        scanpy_key="rank_genes_groups" if running.scanpy_format else None,
    )


def _warn_about_sizes(screen: Screen, limits: Rules) -> None:
    small = [
        f"{label!r} ({size})"
        for label, size in zip(screen.groups, screen.group_sizes, strict=True)
        if size < limits.min_cells_pert
    ]
    if small:
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        warnings.warn(
            f"{len(small)} perturbations have fewer than min_cells_pert={limits.min_cells_pert} "
            f"cells and are not tested: {', '.join(small[:5])}{more}",
            CrispyxWarning,
            stacklevel=5,
        )
