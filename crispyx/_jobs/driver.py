"""The block driver: every long computation over genes runs through here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from crispyx._io.disk import reporting_full_disk
from crispyx._jobs.tiles import TileStore
from crispyx._run.lock import writer_lock
from crispyx._run.prefetch import prefetch
from crispyx._run.progress import track

Block = TypeVar("Block")


@contextmanager
def writing_units(output: Path) -> Iterator[None]:
    """Hold the right to write ``output`` unit by unit.

    Raises
    ------
    OutputBusyError
        Another process writes it.
    DiskSpaceError
        The disk is full; the units of the last checkpoint are kept.
    """
    kept = "the blocks up to the last checkpoint are kept (resume=True continues)"
    with reporting_full_disk(output.parent, str(output), kept), writer_lock(output):
        yield


def run_units(
    store: TileStore,
    blocks: Callable[[int, int], Generator[Block, None, None]],
    compute: Callable[[Block], Mapping[str, np.ndarray]],
    *,
    resume: bool,
    label: str,
    show: bool | None,
    ahead: bool = True,
) -> None:
    """Compute the tiles that ``store`` lacks.

    Parameters
    ----------
    store : TileStore
        Where tiles go, and what an earlier run left.
    blocks : callable (width, first gene) -> generator
        Opens the stream of blocks from a gene on.
    compute : callable block -> mapping of arrays (n_groups, width)
        The method.
    resume : bool
        Go on after the last complete tile.
    label : str
        Name shown beside the progress bar.
    show : bool or None
        Progress bar; None decides by settings and terminal.
    ahead : bool
        Compute a block while the one before is written, in another thread.

    An interruption leaves the checkpoint, which a call with ``resume=True`` continues.
    """
    done = store.open(resume=resume)
    try:
        if done == store.n_units:
            return
        # Closed here, whatever happens: threads are reading and computing ahead.
        with (
            closing(blocks(store.width, done * store.width)) as stream,
            closing(compute(block) for block in stream) as computed,
            closing(prefetch(computed) if ahead else computed) as tiles,
        ):
            for tile in track(
                tiles, total=store.n_units, label=label, unit="block", show=show, done=done
            ):
                store.append(tile)
    except KeyboardInterrupt as stop:
        store.save()
        stop.add_note(f"{store.done} of {store.n_units} blocks are kept; resume=True continues")
        raise
    except Exception:
        store.remove_unnoted()
        raise
