"""A comparison whose blocks of genes are computed by somebody else, and put together here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.matrix import READ_VALUES
from crispyx._io.paths import blocks_folder, turned_folder
from crispyx._io.source import MatrixSource
from crispyx._jobs.block_folder import BlockFolder, PassTiles
from crispyx._jobs.block_work import (
    MANIFEST,
    Manifest,
    add_seen,
    cross_barrier,
    run_block,
)
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.plan import MAX_WIDTH, Plan
from crispyx._jobs.shared_input import reopened_by
from crispyx._jobs.size_factors import Reach
from crispyx._jobs.stage import (
    STAGE,
    Stage,
    close_stages,
    contents_of,
    turn_unit,
    turned_matrix,
)
from crispyx._jobs.tiles import AssembledTiles
from crispyx._run.executor import Workers, workers_of
from crispyx._run.progress import track
from crispyx.settings import settings

if TYPE_CHECKING:
    from crispyx.de.comparison import Call, Comparison

UNIT_VALUES = 2 * READ_VALUES  # of a part of the matrix that one task turns around
MOST_UNITS = 256  # files that each reader of the turned matrix opens
BLOCKS = 128  # of one pass, unless they would be smaller or larger than these
BLOCK_VALUES = (READ_VALUES, 16 * READ_VALUES)


@dataclass
class InSteps:
    """A run in the steps that a batch system takes: plan, blocks, assembly.

    Attributes
    ----------
    folder : pathlib.Path or None
        This is the last step, of the blocks in it; None is the first step.
    executor : object
        Who turns the matrix around in the first step; None does it here.
    planned : (BlockFolder, Manifest) or None
        What the first step left.
    """

    folder: Path | None = None
    executor: Any = None
    planned: tuple[BlockFolder, Manifest] | None = None


class Planned(Exception):  # noqa: N818 - no error: the first step ends here
    """There is a plan, and no result yet."""


def run(comparison: Comparison, call: Call, executor: Any) -> None:
    """Compute the blocks of a comparison by ``executor``, and write the result."""
    folder = BlockFolder(blocks_folder(comparison.output, settings.scratch_dir))
    if isinstance(executor, InSteps):
        if executor.folder is not None:
            folder = BlockFolder(executor.folder)
            _assemble(comparison, folder, *_prepared(comparison, call, folder, None))
            return
        with ExitStack() as ending:
            ending.callback(close_stages)
            workers = None
            if executor.executor is not None:
                workers = ending.enter_context(_workers(comparison, executor.executor))
            _, manifest, _ = _prepared(comparison, call, folder, workers)
        executor.planned = folder, manifest
        raise Planned
    with _workers(comparison, executor) as workers:
        prepared = _prepared(comparison, call, folder, workers)
        _, manifest, key = prepared
        for position, name in enumerate(manifest.work.passes):
            if position > 0:
                cross_barrier(folder, key, manifest, position)
            label = name if len(manifest.work.passes) == 1 else f"{call.method.name}: {name}"
            _compute(comparison, folder, key, manifest.numbers(position), workers, label)
    _assemble(comparison, folder, *prepared)
    folder.remove()


def _workers(comparison: Comparison, executor: Any) -> AbstractContextManager[Workers]:
    return workers_of(executor, comparison.running.n_jobs, at_end=close_stages)


def _prepared(
    comparison: Comparison, call: Call, folder: BlockFolder, workers: Workers | None
) -> tuple[GeneStream, Manifest, str]:
    """Turn the matrix around and plan the blocks, or find what an earlier run left of it."""
    identity, running = comparison.identity, comparison.running
    begun = running.resume and folder.require_identity(STAGE, identity)
    folder.create(afresh=not begun)
    stage, stage_key = _stage(comparison, call, folder, workers)
    turned = turned_matrix(stage, comparison.source)
    stream = GeneStream(
        comparison.source, stage.membership, n_threads=comparison.n_threads, turned=turned
    )
    if begun and folder.require_identity(MANIFEST, identity):
        found = folder.load(MANIFEST)
        assert found is not None  # its identity was read
        return stream, *found
    plan = call.method.plan(_with_wide_blocks(comparison))
    edges = _edges(stream, plan, running.width)
    if workers is not None and stage.every_cell:
        reach = Reach(str(folder.path), stage_key, stage.edges, edges, workers)
        comparison = replace(comparison, reach=reach)
    work = call.method.work(comparison, stream, plan)
    manifest = Manifest(
        edges,
        work,
        replace(
            call,
            data=stage.data,
            method=call.method.recordable(),
            running=replace(running, executor=None, output_path=Path(os.path.abspath(call.output))),
        ),
        stream.takes_log1p,
    )
    return stream, manifest, folder.save(MANIFEST, identity, manifest)


def _stage(
    comparison: Comparison, call: Call, folder: BlockFolder, workers: Workers | None
) -> tuple[Stage, str]:
    source = comparison.source
    found = folder.load(STAGE)
    if found is None:
        membership, looks = call.method.membership(comparison), call.method.looks
        edges = _parts(source, looks)
        data = reopened_by(call.data)
        contents = contents_of(source, membership, edges, looks)
        turned = turned_folder(folder.path, settings.stage_dir, data, contents).absolute()
        stage = Stage(data, call.selection.layer, membership, edges, looks, str(turned), contents)
        found = stage, folder.save(STAGE, comparison.identity, stage)
    stage, key = found
    missing = stage.missing()
    if missing:
        Path(stage.turned).mkdir(parents=True, exist_ok=True)
    tasks = [(str(folder.path), key, unit) for unit in missing]
    steps = _here(turn_unit, tasks) if workers is None else workers.run(turn_unit, tasks)
    for _ in track(
        steps,
        total=stage.n_units,
        done=stage.n_units - len(missing),
        label="turning",
        unit="part",
        show=comparison.running.show,
    ):
        pass
    return stage, key


def _parts(source: MatrixSource, looks: bool) -> np.ndarray:
    """Return the first vector of every part of the stored axis; whoever turns them, all the same.

    Genes of a CSC matrix are parts only where the whole must have been seen.
    """
    n_units = 0
    if source.layout != "csc" or looks:
        n_units = min(-(-source.storage.n_stored // UNIT_VALUES), MOST_UNITS)
        n_units = min(max(n_units, 1), source.storage.n_major)
    return np.linspace(0, source.storage.n_major, n_units + 1).astype(np.int64)


def _here(function: Any, tasks: Sequence[tuple[Any, ...]]) -> Any:
    for number, task in enumerate(tasks):
        function(*task)
        yield number


def _compute(
    comparison: Comparison,
    folder: BlockFolder,
    key: str,
    numbers: range,
    workers: Workers,
    label: str,
) -> None:
    """Have the blocks of a pass computed that are not there."""
    missing = folder.missing(numbers, key)
    tasks = [(str(folder.path), key, number, workers.n_threads) for number in missing]
    done = len(numbers) - len(missing)
    try:
        for _ in track(
            workers.run(run_block, tasks),
            total=len(numbers),
            done=done,
            label=label,
            unit="block",
            show=comparison.running.show,
        ):
            done += 1
    except KeyboardInterrupt as stop:
        stop.add_note(f"{done} of {len(numbers)} blocks are kept; resume=True continues")
        raise


def _assemble(
    comparison: Comparison, folder: BlockFolder, stream: GeneStream, manifest: Manifest, key: str
) -> None:
    """Write the result from the tiles of the last pass."""
    work, last = manifest.work, len(manifest.work.passes) - 1
    numbers = manifest.numbers(last)
    folder.require_tiles(numbers, key)
    before = barrier = None
    if last > 0:
        barrier = cross_barrier(folder, key, manifest, last)
        before = PassTiles(folder, manifest.numbers(last - 1))
    if not stream.summary.complete and comparison.source.layout == "csc":
        add_seen(folder, numbers, stream.summary)
        stream.summary.complete = True
    store = AssembledTiles(
        comparison.output,
        work.fields(last),
        comparison.shape,
        manifest.edges,
        Checkpoint(comparison.output, comparison.identity, 1, None),
    )
    store.open(resume=False)
    try:
        for number in numbers:
            store.append(folder.read_tile(number))
        call = manifest.call
        call.method.complete(comparison, stream, store, work, before, barrier)
    finally:
        stream.close()
        store.close()


def _edges(stream: GeneStream, plan: Plan, width: int | None) -> np.ndarray:
    """Return the first gene of every block; blocks have about as many non-zeros each."""
    n_genes = stream.source.shape[1]
    if width is not None:
        return np.append(np.arange(0, n_genes, plan.width), n_genes)
    n_before = np.concatenate([[0], np.cumsum(stream.n_values_of_genes())])
    least, most = BLOCK_VALUES
    target = min(max(n_before[-1] // BLOCKS, least), most)
    edges = [0]
    while edges[-1] < n_genes:
        stop = int(np.searchsorted(n_before, n_before[edges[-1]] + target, side="right")) - 1
        edges.append(min(max(stop, edges[-1] + 1), edges[-1] + plan.width, n_genes))
    return np.array(edges, dtype=np.int64)


def _with_wide_blocks(comparison: Comparison) -> Comparison:
    """Return the comparison with blocks as wide as memory allows: their values are counted."""
    running = comparison.running
    width = MAX_WIDTH if running.width is None else running.width
    return replace(comparison, running=replace(running, width=width))
