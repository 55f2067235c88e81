"""From a screen to a file of profiles: reload it, or sum, tile by tile, and write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.paths import prepare_output
from crispyx._io.source import READ_VALUES, MatrixSource
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.driver import run_units, writing_units
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.partial import PartialUnit
from crispyx._jobs.plan import BLOCK_VALUES, BYTES_PER_GROUPED, BYTES_PER_READ, MAX_WIDTH
from crispyx._jobs.shared_input import Readers, readers_of
from crispyx._jobs.tiles import HeldTile, TileStore
from crispyx._run.budget import require, working_memory
from crispyx._run.fingerprint import fingerprint
from crispyx._run.threads import resolve_threads
from crispyx._stats.pseudobulk import Members, Transform
from crispyx.data.arguments import PathLike, output_of, whole
from crispyx.data.ondisk import AnnData
from crispyx.pseudobulk.elsewhere import panels_elsewhere
from crispyx.pseudobulk.totals import Totals
from crispyx.settings import settings

BYTES_PER_TOTAL = 16  # the total, and a copy of it on its way into a file


@dataclass(frozen=True)
class Running:
    """How the work is done and where it goes: never a number."""

    chunk_size: int | None
    output_dir: PathLike | None
    data_name: str | None
    output_path: PathLike | None = None
    memory_limit_gb: float | None = None
    n_jobs: int | None = None
    resume: bool = False
    force: bool = False
    show: bool | None = None
    executor: Any = None


@dataclass(frozen=True)
class Job:
    """What is summed, and what it is called.

    Attributes
    ----------
    kind : str
        Suffix of the output and name of the operation.
    members : Members
        Groups of cells.
    counts, otherwise : Transform
        See :class:`crispyx.pseudobulk.totals.Totals`.
    parameters : mapping
        Everything that can change a number.
    write : callable (output, store, totals, fingerprint) -> None
        Writes the result from the totals, field ``"total"`` of the store.
    n_tables : int
        Tables of the result, for the free space it needs.
    """

    kind: str
    members: Members
    counts: Transform
    otherwise: Transform | None
    parameters: Mapping[str, Any]
    write: Callable[[Path, TileStore, Totals, Mapping[str, Any]], None]
    n_tables: int


def run(source: MatrixSource, data: Any, layer: str | None, job: Job, running: Running) -> AnnData:
    """Run a job, or reload its result; ``source`` was opened with ``data`` and ``layer``.

    Raises
    ------
    InputError, OutputExistsError, MemoryBudgetError, DiskSpaceError, CheckpointError
        See the message: it names the place and the way out.
    """
    engine = settings.engine
    output = output_of(source, job.kind, running.output_path, running.output_dir, running.data_name)
    identity = fingerprint(job.kind, source.identity(), {**job.parameters, "engine": engine})
    if can_reuse(output, identity, force=running.force):
        return AnnData(output)
    n_genes, n_groups = source.shape[1], job.members.n_groups
    prepare_output(output, source.paths, 8 * n_genes * n_groups * (1 + job.n_tables), store=True)
    max_cells = running.chunk_size
    totals = Totals(
        source,
        job.members,
        job.counts,
        job.otherwise,
        job.kind,
        engine,
        resolve_threads(running.n_jobs),
        None if max_cells is None else whole("chunk_size", max_cells, 1),
    )
    with (
        writing_units(output),
        readers_of(
            source,
            data,
            layer,
            running.executor,
            running.n_jobs,
            output=output,
            label=job.kind,
            show=running.show,
        ) as readers,
    ):
        _compute(output, totals, job, running, identity, readers)
    return AnnData(output)


def _compute(
    output: Path,
    totals: Totals,
    job: Job,
    running: Running,
    identity: Mapping[str, Any],
    readers: Readers | None,
) -> None:
    shape = (job.members.n_groups, totals.source.shape[1])
    limit = running.memory_limit_gb
    width = _panel_width(totals.source, shape[0], limit, readers is not None)
    checkpoint = Checkpoint(output, identity, -(-shape[1] // width), None)
    kind = HeldTile if width == shape[1] else TileStore
    store = kind(output, {"total": job.counts.dtype}, shape, width, checkpoint)
    unit = PartialUnit(output, identity)
    if not running.resume:
        unit.remove()
    panels = partial(totals.panels, partial=unit)
    if readers is not None:
        panels = partial(panels_elsewhere, totals=totals, readers=readers)
    try:
        run_units(
            store,
            panels,
            lambda total: {"total": total},
            resume=running.resume,
            label=job.kind,
            show=running.show if readers is None else False,  # ranges have a bar of their own
            ahead=readers is None,
        )
        totals.decide()
        job.write(output, store, totals, identity)
        store.remove()
        unit.remove()
    finally:
        store.close()


def _panel_width(
    source: MatrixSource, n_groups: int, memory_limit_gb: float | None, by_others: bool
) -> int:
    """Return how many genes are summed at a time: all of a matrix stored by cells, if they fit.

    Of a CSC matrix that others read all of them, too.
    """
    by_genes = source.layout == "csc" and not by_others
    n_cells, n_genes = source.shape
    stored = source.storage.n_stored
    budget = working_memory(memory_limit_gb)
    per_gene = BYTES_PER_TOTAL * n_groups
    if by_genes:
        per_gene += BYTES_PER_GROUPED * stored // n_genes
    fixed = BYTES_PER_READ * min(READ_VALUES, stored) + 48 * n_cells
    require(fixed + per_gene, budget, f"{source.where}: a sum over {n_groups} groups of cells")
    width = n_genes
    if by_genes:
        width = min(MAX_WIDTH, max(1, BLOCK_VALUES * n_genes // max(1, stored)))
    return int(np.clip((budget - fixed) // per_gene, 1, min(width, n_genes)))
