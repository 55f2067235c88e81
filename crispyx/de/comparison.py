"""One way through for every test that compares perturbations with the control gene by gene."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
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
from crispyx._jobs.block_work import Work
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.driver import writing_units
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.plan import Plan
from crispyx._jobs.results import Column, write_result
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx._jobs.shared_input import executor_for
from crispyx._jobs.size_factors import Reach
from crispyx._jobs.tiles import Rows, TileStore
from crispyx._kernels.layout import Membership
from crispyx._run.fingerprint import fingerprint
from crispyx._run.threads import resolve_threads
from crispyx._stats.multiple_testing import adjust
from crispyx.de import elsewhere
from crispyx.de.arguments import Rules, Running, Selection
from crispyx.de.results import RankGenesGroupsResult
from crispyx.de.storage import load_result
from crispyx.errors import CrispyxWarning, InputError
from crispyx.settings import Engine, settings


@dataclass(frozen=True)
class Comparison:
    """Everything a test is given: the opened screen, what to test, and where the result goes."""

    source: MatrixSource
    screen: Screen
    batches: Batches | None
    limits: Rules
    running: Running
    output: Path
    identity: Mapping[str, Any]
    engine: Engine
    n_threads: int
    reach: Reach | None = None  # of workers to the matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Perturbations and genes."""
        return len(self.screen.groups), self.source.shape[1]

    def store(
        self,
        fields: Mapping[str, np.dtype],
        width: int,
        *,
        part: str = "",
        n_rows: int | None = None,
        kind: type[TileStore] = TileStore,
    ) -> TileStore:
        """Return a store of tiles beside the output.

        Parameters
        ----------
        fields : mapping of str to numpy.dtype
            Arrays of a tile.
        width : int
            Genes of a block.
        part : str
            Name of an earlier pass, whose tiles are no result.
        n_rows : int or None
            Rows of its tables; None takes one for each perturbation.
        kind : type
            HeldTile where there is one block, which no file need hold.
        """
        n_groups, n_genes = self.shape
        output = self.output.with_name(f"{self.output.name}.{part}") if part else self.output
        checkpoint = Checkpoint(
            output, self.identity, -(-n_genes // width), self.running.checkpoint_interval
        )
        return kind(output, fields, (n_rows or n_groups, n_genes), width, checkpoint)

    def write(
        self, store: TileStore, columns: Mapping[str, Column], uns: Mapping[str, Any]
    ) -> None:
        """Write the complete result, with adjusted p-values and what all results note."""
        limits = self.limits
        layers = dict(columns)
        x = layers.pop("X")
        correct = partial(
            adjust,
            method=limits.corr_method,
            scope=limits.corr_scope,
            engine=self.engine,
            n_threads=self.n_threads,
        )
        layers["pvalue_adj"] = Column(
            np.float64, "pvalue", correct, all_rows=limits.corr_scope == "screen"
        )
        notes = {
            "control_label": self.screen.control_label,
            "perturbation_column": self.screen.perturbation_column,
            "pvalue_correction": limits.corr_method,
            "pvalue_correction_scope": limits.corr_scope,
        }
        write_result(
            self.output,
            store,
            self.screen,
            x=x,
            layers=layers,
            uns={**notes, **uns},
            fingerprint=self.identity,
            scanpy_key="rank_genes_groups" if self.running.scanpy_format else None,
        )


class Method(Protocol):
    """A test: what it is called, what it writes, and how it runs.

    ``looks`` says that the whole matrix must have been seen before the first block.
    """

    name: str
    looks: bool

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of its own that change numbers."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """Tables of the result, ``"X"`` and layers, but for the adjusted p-values."""

    def check(self, source: MatrixSource, screen: Screen) -> None:
        """Refuse what the test cannot be asked, before anything is read or written."""

    def recordable(self) -> Method:
        """Return the test as another process is told of it."""
        return self

    def plan(self, comparison: Comparison) -> Plan:
        """Choose the sizes of the work."""

    def membership(self, comparison: Comparison) -> Membership:
        """Return the groups by which blocks of genes are sorted."""

    def work(self, comparison: Comparison, stream: GeneStream, plan: Plan) -> Work:
        """Look at the data before the first block, and return what is computed of each."""

    def complete(
        self,
        comparison: Comparison,
        stream: GeneStream,
        store: TileStore,
        work: Work,
        before: Rows | None = None,
        barrier: Any = None,
    ) -> None:
        """Warn about what only the whole shows, and write the result from all tiles.

        ``before`` are the tables of the pass before the last, ``barrier`` is what the last pass
        knew of them.
        """

    def run(self, comparison: Comparison) -> None:
        """Compute and write the result in this process."""


@dataclass(frozen=True)
class Call:
    """What a caller asked for, so that another process can go on with it.

    Attributes
    ----------
    data : str or list of str
        The input.
    method : Method
        The test.
    selection, limits, running
        The folded arguments of the documented door.
    output : pathlib.Path
        The result.
    """

    data: Any
    method: Method
    selection: Selection
    limits: Rules
    running: Running
    output: Path


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
    engine, executor = settings.engine, running.executor
    if not isinstance(executor, elsewhere.InSteps):
        executor = executor_for(executor, data, stacklevel=4)
    with open_source(data, selection.layer) as source:
        screen = resolve_screen(
            source,
            perturbation_column=selection.perturbation_column,
            control_label=selection.control_label,
            gene_name_column=selection.gene_name_column,
            perturbations=selection.perturbations,
        )
        method.check(source, screen)
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
        inputs = source.paths
        check_output_name(output, inputs)
        if can_reuse(output, identity, force=running.force):
            return load_result(output)
        columns = method.columns.values()
        per_pair = sum(np.dtype(column.dtype).itemsize for column in columns)
        needed = len(screen.groups) * len(screen.genes) * (per_pair + 8)  # adjusted p-values
        prepare_output(output, inputs, needed)
        n_threads = resolve_threads(running.n_jobs)
        with writing_units(output):
            _warn_about_sizes(screen, limits)
            comparison = Comparison(
                source, screen, batches, limits, running, output, identity, engine, n_threads
            )
            if executor is None:
                method.run(comparison)
            else:
                call = Call(data, method, selection, limits, running, output)
                elsewhere.run(comparison, call, executor)
    return load_result(output)


def _output(source: MatrixSource, suffix: str, running: Running) -> Path:
    if running.output_path is not None:
        return Path(running.output_path)
    if source.path is None and running.output_dir is None:
        raise InputError(
            f"{source.where} has no folder for the result; give output_path= or output_dir="
        )
    return resolve_output_path(
        source.path or "",
        suffix=suffix,
        output_dir=running.output_dir,
        data_name=running.data_name,
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
            stacklevel=4,
        )
