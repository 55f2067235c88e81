"""One way through for every test that compares perturbations with the control gene by gene."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.paths import check_output_name, prepare_output, resolve_output_path
from crispyx._io.scanpy_format import require_room
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.batches import Batches, read_batches
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.driver import run_units
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.plan import BYTES_PER_GROUPED, plan_genes
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
from crispyx._stats.van_elteren import SIDES, Alternative
from crispyx._stats.welch import log_fold_changes
from crispyx.de.results import RankGenesGroupsResult
from crispyx.de.storage import load_result
from crispyx.errors import CrispyxWarning, InputError, InputTypeError
from crispyx.settings import Engine, settings

BYTES_PER_BATCH = 48  # of one gene and one perturbation: runs, statistics and moments of a batch
BYTES_PER_COPY = 8  # of a non-zero that stands in its group and in its batch's

Tile = dict[str, np.ndarray]


@dataclass(frozen=True)
class Selection:
    """Which cells and genes are compared."""

    perturbation_column: str
    control_label: str | None
    gene_name_column: str | None
    perturbations: tuple[str, ...] | None
    layer: str | None
    batch_column: str | None = None


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
    """A test: what it is called, what it writes, and one block of it.

    ``min_cells_batch`` is the number of cells of both arms that a batch must have to take part.
    """

    name: str
    min_cells_batch: int
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
        self,
        block: GroupedGenes,
        batches: Sequence[GroupedGenes],
        arms: tuple[Arm, Arm],
        engine: Engine,
        n_threads: int,
    ) -> Tile:
        """Return effect_size, z_score, pvalue and fields of its own (n_groups, n_genes).

        ``batches`` holds the cells of each batch, and nothing when batches are not asked for.
        """

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
    batch_column: str | None = None,
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
        batch_column=batch_column,
    )


def alternative_of(name: str) -> Alternative:
    """Return the alternative, or raise InputError when there is no such one."""
    if name not in SIDES:
        raise InputError(f"alternative is {name!r}; choose one of {tuple(SIDES)}")
    return name  # type: ignore[return-value]


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
        batches = None
        if selection.batch_column is not None:
            batches = read_batches(source, selection.batch_column)
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
                "batch_column": selection.batch_column,
                "batches": batches.checksum if batches else None,
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
            _compute(source, screen, batches, method, limits, running, output, identity, engine)
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
    batches: Batches | None,
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
    membership = screen.membership if batches is None else batches.beside(screen.membership)
    n_batches = 0 if batches is None else len(batches.names)
    plan = plan_genes(
        source,
        screen,
        output=output,
        bytes_per_result=4 * tile_bytes + BYTES_PER_BATCH * n_batches,
        bytes_per_value=BYTES_PER_GROUPED + (BYTES_PER_COPY if batches else 0),
        memory_limit_gb=running.memory_limit_gb,
        width=running.width,
    )
    _warn_about_sizes(screen, limits)
    if batches is not None:
        _warn_about_batches(screen, batches, membership.sizes, method)
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
        membership,
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
            partial(
                _tile,
                method=method,
                limits=limits,
                n_batches=n_batches,
                engine=engine,
                n_threads=n_threads,
            ),
            resume=running.resume,
            label=method.name,
            show=running.show,
        )
        method.finish(stream, store)
        stream.close()  # its memory is not needed while the result is written
        batch_column = batches.column if batches else None
        _write(output, store, screen, batch_column, method, limits, running, identity, engine)
    finally:
        stream.close()
        store.close()


def _tile(
    block: GroupedGenes,
    *,
    method: Method,
    limits: Rules,
    n_batches: int,
    engine: Engine,
    n_threads: int,
) -> Tile:
    """Test one block; ``docs/methods/expression_filter.md`` has the degenerate cases."""
    n_groups = block.n_groups // (1 + n_batches)
    batches = [block.part((1 + b) * n_groups, n_groups) for b in range(n_batches)]
    if batches:
        block = block.part(0, n_groups)
    control, perturbed = comparison_arms(
        block, engine, n_threads, with_variance=method.takes_variance
    )
    tile = method.test(block, batches, (control, perturbed), engine, n_threads)
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
    batch_column: str | None,
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
    if batch_column is not None:
        uns["batch_column"] = batch_column
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


def _warn_about_batches(
    screen: Screen, batches: Batches, sizes: np.ndarray, method: Method
) -> None:
    n_cells = sizes.reshape(1 + len(batches.names), -1)[1:]
    n1 = n_cells[:, 1:]
    n0 = n_cells[:, :1] - (n1 if screen.membership.pooled else 0)
    least = method.min_cells_batch
    alone = ~np.any((n0 >= least) & (n1 >= least), axis=0)
    if alone.any():
        labels = [repr(screen.groups[k]) for k in np.flatnonzero(alone)]
        more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
        warnings.warn(
            f"{len(labels)} perturbations share no batch of obs column {batches.column!r} with the "
            f"control ({least} or more cells of both) and are not tested: "
            f"{', '.join(labels[:5])}{more}",
            CrispyxWarning,
            stacklevel=5,
        )
