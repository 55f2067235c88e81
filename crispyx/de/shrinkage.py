"""Shrink the fold changes of a negative binomial result (apeGLM)."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from crispyx._io.genes import GeneStream
from crispyx._io.paths import check_output_name, prepare_output, resolve_data_path, shrunk_name
from crispyx._io.record import read_record
from crispyx._io.result_file import ResultFile
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.driver import run_units
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.plan import MAX_WIDTH, plan_genes
from crispyx._jobs.results import Column, write_result
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx._jobs.tiles import TileStore
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._run.budget import working_memory
from crispyx._run.fingerprint import file_identity, fingerprint
from crispyx._run.lock import writer_lock
from crispyx._run.sampling import Sampler
from crispyx._run.threads import resolve_threads
from crispyx._stats.apeglm import Searching
from crispyx._stats.expression_filter import ExpressionThresholds
from crispyx.de.arguments import Rules, Running
from crispyx.de.comparison import Comparison
from crispyx.de.nb_cells import screen_cells
from crispyx.de.nb_choices import Choices
from crispyx.de.nb_passes import FIELDS, Tile
from crispyx.de.nb_shrinkage import SHRUNK_COLUMNS, SHRUNK_FIELDS, Shrinking, prior_scales
from crispyx.de.nb_test import BYTES_PER_PAIR, BYTES_PER_VALUE
from crispyx.de.results import RankGenesGroupsResult
from crispyx.de.storage import load_result
from crispyx.errors import InputError, MissingFileError
from crispyx.settings import Engine, settings

METHODS = ("stats", "full")
MODES = ("global", "per_comparison")
LAYER_OF = {
    **{name: name for name in FIELDS},
    "pvalue_adj": "pvalue_adj",
}
_SAMPLING_SECONDS = 0.02


def shrink_lfc(
    data: Any,
    *,
    output_dir: str | Path | None = None,
    data_name: str | None = None,
    method: str = "stats",
    prior_scale_mode: str = "global",
    min_mu: float = 0.0,
    n_jobs: int = -1,
    batch_size: int = 128,
    profiling: bool = False,
    memory_limit_gb: float | None = None,
    output_path: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    verbose: bool = False,
) -> RankGenesGroupsResult:
    r"""Shrink the fold changes of a result of :func:`nb_glm_test` towards 0 (apeGLM).

    A Cauchy prior, whose scale is estimated from the result, is laid on every fold change; the mode
    and its error replace fold change and standard error. Statistics and p-values stay.

    Parameters
    ----------
    data : path, crispyx.AnnData or backed anndata.AnnData
        Result of :func:`nb_glm_test`.
    output_dir : path or None
        Folder of the new result; None takes the old one's.
    data_name : str or None
        Name of the new result; None adds ``_shrunk`` to the old one's.
    method : {"stats", "full"}
        ``"stats"`` takes the fitted fold change and its standard error for all there is to know.
        ``"full"`` goes back to the counts, which must be where they were and unchanged; it is right
        also where the likelihood is far from normal, at rare genes. See ``docs/nb_shrinkage.md``.
    prior_scale_mode : {"global", "per_comparison"}
        One scale for all perturbations, or one for each as in PyDESeq2.
    min_mu : float
        Means of the likelihood are held at or above it (``"full"``); 0 holds none.
    n_jobs : int
        Threads; -1 takes all cores. Never a number.
    batch_size : int
        Genes of a block (``"full"``). Never a number.
    profiling : bool
        Note seconds and peak memory (MB of the process) in ``uns["profiling"]``.
    memory_limit_gb : float or None
        Memory of the whole process in GB; None uses half of what is free.
    output_path : path or None
        Exact name of the new result, instead of ``output_dir`` and ``data_name``.
    resume : bool
        Continue an interrupted run from its checkpoint.
    force : bool
        Compute again even when the same result is already there.
    verbose : bool
        Show a progress bar also where standard error is no terminal.

    Returns
    -------
    RankGenesGroupsResult
        All tables of the old result. X, ``logfoldchanges`` and ``logfoldchange`` hold shrunken fold
        changes, ``standard_error`` their errors, ``logfoldchange_raw`` the fitted ones.

    Raises
    ------
    InputError, MissingFileError, OutputExistsError, CheckpointError
        No such result, or one already shrunk; counts that are gone or changed (``"full"``).

    Notes
    -----
    With ``preset="pydeseq2"`` in the result, ``"full"`` gives PyDESeq2's mode and error. Source:
    Zhu, Ibrahim and Love, Bioinformatics 35 (2019) 2084-2092. Reference: ``reference.apeglm``.
    """
    for name, value, allowed in (
        ("method", method, METHODS),
        ("prior_scale_mode", prior_scale_mode, MODES),
    ):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}; choose one of {allowed}")
    if not 0 <= min_mu < float("inf"):
        raise InputError(f"min_mu is {min_mu!r}; give a number >= 0")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; give a whole number >= 1")
    began, n_threads = time.perf_counter(), resolve_threads(n_jobs)
    memory = psutil.Process().memory_info
    sampler = Sampler(lambda: memory().rss, _SAMPLING_SECONDS)
    path = resolve_data_path(data)
    old = ResultFile(path)
    record = _record(path, old)
    output = Path(output_path) if output_path else shrunk_name(path, output_dir, data_name)
    identity = fingerprint(
        "shrink_lfc",
        {**file_identity(path), "element": "X", "shape": [len(old.groups), len(old.genes)]},
        {
            "method": method,
            "prior_scale_mode": prior_scale_mode,
            "min_mu": min_mu if method == "full" else 0.0,
            "profiling": bool(profiling),
            "engine": settings.engine,
        },
    )
    check_output_name(output, (path,))
    if can_reuse(output, identity, force=force):
        return load_result(output)
    with ExitStack() as stack:
        if profiling:
            sampler.start()
            stack.callback(sampler.stop)
        work = _Work(old, record, n_threads, memory_limit_gb, settings.engine)
        if method == "full":
            work.open_counts(stack, output, identity, batch_size)
        size = sum(kind.itemsize for kind in SHRUNK_FIELDS.values()) + 8
        prepare_output(output, (path,), len(old.groups) * len(old.genes) * size)
        stack.enter_context(writer_lock(output))
        scale = work.scales(prior_scale_mode)
        searching = Searching(min_mu=min_mu, literal=bool(record["parameters"]["literal"]))
        in_log2 = old.notes["lfc_base"] == "log2"
        shrinking = Shrinking(scale, in_log2, work.engine, n_threads, searching, work.cells)
        fields_of_tiles = {**SHRUNK_FIELDS, "pvalue_adj": np.dtype("f8")}
        shape = len(old.groups), len(old.genes)
        checkpoint = Checkpoint(output, identity, -(-shape[1] // work.width), None)
        store = TileStore(output, fields_of_tiles, shape, work.width, checkpoint)
        stack.callback(store.close)
        run_units(
            store,
            work.blocks,
            partial(_shrunk, shrinking=shrinking),
            resume=resume,
            label="shrink_lfc",
            show=True if verbose else None,
        )
        notes = {
            **{k: v for k, v in old.uns().items() if k not in ("crispyx", "rank_genes_groups")},
            "lfc_shrinkage_type": "apeglm",
            "shrinkage_method": method,
            "prior_scale_mode": prior_scale_mode,
            "prior_scale": scale,
            "profiling": "NA",
        }
        if profiling:
            sampler.stop()
            notes["profiling"] = {
                "shrinkage_seconds": time.perf_counter() - began,
                "shrinkage_peak_memory_mb": max(value for _, value in sampler.readings) / 1e6,
                "profiling_enabled": True,
            }
        columns = dict(SHRUNK_COLUMNS)
        x = columns.pop("X")
        columns["pvalue_adj"] = Column(np.float64, "pvalue_adj")
        write_result(
            output,
            store,
            _screen_of(old),
            x=x,
            layers=columns,
            uns=notes,
            fingerprint=identity,
            scanpy_key="rank_genes_groups" if record["parameters"]["scanpy_format"] else None,
        )
    return load_result(output)


Block = tuple[Tile, CompressedBlock | None]


class _Work:
    """The old result and, for the likelihood of the counts, the screen it came from."""

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
        comparison = Comparison(
            source,
            screen,
            None,
            _rules(parameters),
            _running(output, self.memory_limit_gb),
            output,
            identity,
            self.engine,
            self.n_threads,
        )
        plan = plan_genes(
            source,
            screen,
            output=output,
            bytes_per_result=BYTES_PER_PAIR,
            bytes_per_value=BYTES_PER_VALUE,
            memory_limit_gb=self.memory_limit_gb,
            width=batch_size,
        )
        self.width = plan.width
        self._stream = GeneStream(
            source, screen.membership, scratch_dir=plan.scratch_dir, n_threads=self.n_threads
        )
        stack.callback(self._stream.close)
        self._stream.summarize()
        given = None
        if parameters["size_factors"] is not None:
            given = np.asarray(self.old.uns()["size_factors"], dtype=np.float64)
        choices = Choices(**{field.name: parameters[field.name] for field in fields(Choices)})
        self.cells = screen_cells(comparison, self._stream, plan, choices, given, True)

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
        with self.old.tables() as read:
            for first in range(start, n_genes, width):
                genes = slice(first, min(first + width, n_genes))
                tile = {name: read(layer, slice(None), genes) for name, layer in LAYER_OF.items()}
                yield tile, None if counts is None else next(counts)


def _shrunk(block: Block, *, shrinking: Shrinking) -> Tile:
    columns, counts = block
    if counts is None:
        tile = shrinking.of_statistics(columns)
    else:
        tile = shrinking.of_counts(columns, counts)
    return {**tile, "pvalue_adj": columns["pvalue_adj"]}


def _record(path: Path, old: ResultFile) -> dict[str, Any]:
    """Return the identity of the old result, which must be one of nb_glm_test, not yet shrunk."""
    record = read_record(path)
    if record is not None and record["kind"] == "shrink_lfc":
        raise InputError(
            f"{str(path)!r} has been shrunk already; give the result of nb_glm_test it was made of"
        )
    missing = [layer for layer in LAYER_OF.values() if layer not in old]
    if record is None or record["kind"] != "nb_glm" or missing:
        what = f"it lacks the layers {missing}" if missing else "it carries no such record"
        raise InputError(
            f"{str(path)!r} is not a complete result of nb_glm_test: {what}; shrinkage needs its "
            "fold changes, standard errors and dispersions"
        )
    if record["parameters"].get("lfc_shrinkage_type", "none") != "none":
        raise InputError(
            f"{str(path)!r} was made with lfc_shrinkage_type='apeglm' and is shrunk already; run "
            "nb_glm_test with lfc_shrinkage_type='none' to shrink in a step of its own"
        )
    return record


def _counts_of(
    stack: ExitStack, old: ResultFile, record: Mapping[str, Any]
) -> tuple[MatrixSource, Screen]:
    """Open the input that a result names, and check that it is the same."""
    made_of, parameters = record["input"], record["parameters"]
    ways_out = "run nb_glm_test again, or take method='stats', which needs the result alone"
    if made_of["path"] is None:
        raise InputError(
            f"{str(old.path)!r} was made of an AnnData in memory, whose counts are not on disk; "
            "take method='stats'"
        )
    path = Path(made_of["path"])
    if not path.exists():
        raise MissingFileError(
            f"{str(path)!r}, whose counts {str(old.path)!r} was made of, does not exist any more; "
            f"put it back, {ways_out}"
        )
    element = str(made_of["element"])
    parts = element.split("/")
    layer = parts[-1] if "layers" in parts else None
    modality = parts[1] if parts[0] == "mod" else None
    source = stack.enter_context(open_source(path, layer, modality=modality))
    changed = {
        key: (value, source.identity().get(key))
        for key, value in made_of.items()
        if source.identity().get(key) != value
    }
    if changed:
        name, (before, now) = next(iter(changed.items()))
        raise InputError(
            f"{str(path)!r} is not what {str(old.path)!r} was made of any more: {name} was "
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


def _screen_of(old: ResultFile) -> Screen:
    """Return the names of rows and columns of a result."""
    return Screen(
        perturbation_column=str(old.notes["perturbation_column"]),
        control_label=str(old.notes["control_label"]),
        groups=tuple(map(str, old.groups)),
        membership=Membership.from_labels(np.empty(0, dtype=np.int64), len(old.groups) + 1),
        genes=np.asarray(old.genes),
        gene_name_column=old.gene_axis_name,
    )
