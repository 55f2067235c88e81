"""A negative binomial result that is to be shrunk, and the counts it was made of."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.record import read_record
from crispyx._io.result_file import ResultFile
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.batches import read_batches
from crispyx._jobs.plan import MAX_WIDTH, plan_genes
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._run.budget import working_memory
from crispyx._stats.expression_filter import ExpressionThresholds
from crispyx.de.arguments import Rules, Running
from crispyx.de.comparison import Comparison
from crispyx.de.nb_cells import chosen_genes, screen_cells
from crispyx.de.nb_choices import Choices
from crispyx.de.nb_passes import FIELDS, Tile
from crispyx.de.nb_shrinkage import prior_scales
from crispyx.de.nb_test import BYTES_PER_PAIR, BYTES_PER_VALUE, WIDE_TILE
from crispyx.errors import InputError, MissingFileError
from crispyx.settings import Engine

LAYERS = (*FIELDS, "pvalue_adj")
# Columns of so many genes are read at once: a table lies row by row, and each row is a seek.
READ_BYTES = 1 << 25

Block = tuple[Tile, CompressedBlock | None]


class OldResult:
    """A result whose fold changes are to be shrunk and, where asked for, the counts it is of.

    Parameters
    ----------
    file : ResultFile
        The result.
    record : mapping
        Its identity, from :func:`require_fits`.
    n_threads : int
        Threads of the kernels.
    memory_limit_gb : float or None
        Memory of the whole process.
    engine : {"compiled", "reference"}
        How to compute.
    """

    def __init__(
        self,
        old: ResultFile,
        record: Mapping[str, Any],
        n_threads: int,
        memory_limit_gb: float | None,
        engine: Engine,
    ) -> None:
        self.old, self.record = old, record
        self.n_threads, self.memory_limit_gb, self.engine = n_threads, memory_limit_gb, engine
        self.cells: Any = None
        self._stream: GeneStream | None = None
        room = working_memory(memory_limit_gb) // 4
        self.width = max(1, min(MAX_WIDTH, room // (BYTES_PER_PAIR * max(1, len(old.groups)))))

    def open_counts(
        self, stack: ExitStack, output: Path, identity: Mapping[str, Any], batch_size: int
    ) -> None:
        """Open the counts the result was made of, and lay out their cells."""
        source, screen = _counts_of(stack, self.old, self.record)
        parameters = self.record["parameters"]
        column = self.old.notes["batch_column"]
        comparison = Comparison(
            source,
            screen,
            None if column == "none" else read_batches(source, str(column)),
            _rules(parameters),
            _running(output, self.memory_limit_gb),
            output,
            identity,
            self.engine,
            self.n_threads,
        )
        alike = parameters["size_factors"] is not None or (
            parameters["size_factor_scope"] == "global"
        )
        width = batch_size
        if not alike:
            # The cells of every comparison are laid out once for each block.
            width = max(width, WIDE_TILE // (BYTES_PER_PAIR * max(1, len(screen.groups))))
        plan = plan_genes(
            source,
            screen,
            output=output,
            bytes_per_result=BYTES_PER_PAIR,
            bytes_per_value=BYTES_PER_VALUE,
            memory_limit_gb=self.memory_limit_gb,
            width=min(width, len(screen.genes)),
            n_threads=self.n_threads,
        )
        self.width = plan.width
        self._stream = GeneStream(
            source,
            screen.membership,
            scratch_dir=plan.scratch_dir,
            n_threads=self.n_threads,
            max_values=plan.read_values,
        )
        stack.callback(self._stream.close)
        self._stream.summarize()
        given = None
        if alike:
            given = np.asarray(self.old.uns()["size_factors"], dtype=np.float64)
        genes = None
        if parameters["control_genes"] is not None:
            genes = chosen_genes(tuple(parameters["control_genes"]), screen.genes, source.where)
        choices = Choices(**{field.name: parameters[field.name] for field in fields(Choices)})
        self.cells = screen_cells(comparison, self._stream, plan, choices, given, genes, True)

    def scales(self, mode: str) -> np.ndarray:
        """Return the prior scale of every perturbation."""
        with self.old.tables() as read:

            def row(name: str, group: int) -> np.ndarray:
                return read(name, slice(group, group + 1), slice(None))[0]

            shape = len(self.old.groups), len(self.old.genes)
            return prior_scales(row, shape, mode, self.memory_limit_gb)

    def blocks(self, width: int, start: int) -> Generator[Block, None, None]:
        """Yield the columns of the old result, with the counts where they are asked for."""
        n_genes = len(self.old.genes)
        counts = None if self._stream is None else self._stream.blocks(width, start)
        room = min(READ_BYTES, working_memory(self.memory_limit_gb) // 8)
        at_once = width * max(1, room // (8 * len(LAYERS) * len(self.old.groups) * width))
        with self.old.tables() as read:
            for first in range(start, n_genes, at_once):
                genes = slice(first, min(first + at_once, n_genes))
                tables = {name: read(name, slice(None), genes) for name in LAYERS}
                for begin in range(0, genes.stop - first, width):
                    tile = {name: table[:, begin : begin + width] for name, table in tables.items()}
                    yield tile, None if counts is None else next(counts)


def require_fits(path: Path, old: ResultFile) -> dict[str, Any]:
    """Return the identity of the old result, which must be one of nb_glm_test, not yet shrunk."""
    record = read_record(path)
    if record is not None and record["kind"] == "shrink_lfc":
        raise InputError(
            f"{str(path)!r} has been shrunk already; give the result of nb_glm_test it was made of"
        )
    missing = [layer for layer in LAYERS if layer not in old]
    if record is None or record["kind"] != "nb_glm" or missing:
        what = f"it lacks the layers {missing}" if missing else "it carries no such record"
        raise InputError(
            f"{str(path)!r} is not a complete result of nb_glm_test: {what}. Shrinkage needs its "
            "fold changes, standard errors and dispersions: run cx.nb_glm_test on the counts "
            "and give its result"
        )
    if record["parameters"].get("lfc_shrinkage_type", "none") != "none":
        raise InputError(
            f"{str(path)!r} was made with lfc_shrinkage_type='apeglm' and is shrunk already; run "
            "nb_glm_test with lfc_shrinkage_type='none' to shrink in a step of its own"
        )
    return record


def screen_of(old: ResultFile) -> Screen:
    """Return the names of rows and columns of a result."""
    return Screen(
        perturbation_column=str(old.notes["perturbation_column"]),
        control_label=str(old.notes["control_label"]),
        groups=tuple(map(str, old.groups)),
        membership=Membership.from_labels(np.empty(0, dtype=np.int64), len(old.groups) + 1),
        genes=np.asarray(old.genes),
        gene_name_column=old.gene_axis_name,
    )


def _counts_of(
    stack: ExitStack, old: ResultFile, record: Mapping[str, Any]
) -> tuple[MatrixSource, Screen]:
    """Open the input that a result names, and check that it is the same."""
    made_of, parameters = record["input"], record["parameters"]
    ways_out = "run nb_glm_test again, or take method='stats', which needs the result alone"
    if parameters["covariates"]:
        raise InputError(
            f"{str(old.path)!r} was fitted beside covariates, which the likelihood of "
            "method='full' does not have; take method='stats'"
        )
    files = [Path(one["path"]) for one in made_of.get("files", [made_of]) if one["path"]]
    if not files:
        raise InputError(
            f"{str(old.path)!r} was made of an AnnData in memory, whose counts are not on disk; "
            "take method='stats'"
        )
    for path in files:
        if path.exists():
            continue
        raise MissingFileError(
            f"{str(path)!r}, whose counts {str(old.path)!r} was made of, does not exist any more; "
            f"put it back, {ways_out}"
        )
    element = str(made_of["element"])
    parts = element.split("/")
    layer = parts[-1] if "layers" in parts else None
    modality = parts[1] if parts[0] == "mod" else None
    data = files if "files" in made_of else files[0]
    source = stack.enter_context(open_source(data, layer, modality=modality))
    changed = {
        key: (value, source.identity().get(key))
        for key, value in made_of.items()
        if source.identity().get(key) != value
    }
    if changed:
        name, (before, now) = next(iter(changed.items()))
        raise InputError(
            f"{source.where} is not what {str(old.path)!r} was made of any more: {name} was "
            f"{before!r}, is {now!r}; {ways_out}"
        )
    screen = resolve_screen(
        source,
        perturbation_column=parameters["perturbation_column"],
        control_label=parameters["control_label"],
        gene_name_column=parameters["gene_name_column"],
        perturbations=parameters["perturbations"],
    )
    return source, screen


def _rules(parameters: Mapping[str, Any]) -> Rules:
    return Rules(
        ExpressionThresholds(**parameters["thresholds"]),
        parameters["min_cells_expressed"],
        parameters["min_cells_pert"],
        parameters["corr_method"],
        parameters["corr_scope"],
    )


def _running(output: Path, memory_limit_gb: float | None) -> Running:
    return Running(
        output_path=output,
        output_dir=None,
        data_name=None,
        width=None,
        cell_chunk_size=None,
        n_jobs=None,
        memory_limit_gb=memory_limit_gb,
        checkpoint_interval=None,
        resume=False,
        force=False,
        scanpy_format=False,
        show=None,
    )
