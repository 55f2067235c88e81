"""Files with a new matrix in X, written block by block and continued after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from crispyx._io.disk import reporting_full_disk
from crispyx._io.paths import work_path
from crispyx._io.placed import MatrixFile, MatrixForm
from crispyx._io.stores import publish
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.lock import writer_lock
from crispyx._run.prefetch import prefetch


def write_matrix_file(
    output: Path,
    form: MatrixForm,
    blocks: Callable[[int], Iterator[CompressedBlock]],
    fill: Callable[[Any], None],
    checkpoint: Checkpoint,
    *,
    resume: bool,
) -> None:
    """Write an h5ad file, or a zarr store, that appears under its name when complete.

    Parameters
    ----------
    output : pathlib.Path
        Final file; ``.<output>.work`` beside it grows meanwhile.
    form : MatrixForm
        X.
    blocks : callable (first vector) -> iterator of CompressedBlock
        X from a vector on, along the stored axis.
    fill : callable (h5py.File) -> None
        Writes all other slots.
    checkpoint : Checkpoint
        Where progress is noted.
    resume : bool
        Go on where an interrupted run of the same work stopped.

    Raises
    ------
    OutputBusyError
        Another process writes the same output.
    CheckpointError
        ``resume`` is asked for, and what was interrupted had another input or other parameters.
    DiskSpaceError
        The disk is full.

    An error removes what was written; an interruption leaves it, with a checkpoint.
    """
    work = work_path(output)
    with reporting_full_disk(output.parent, str(output)), writer_lock(output):
        state = checkpoint.load() if resume and work.exists() else None
        try:
            if state is None:
                checkpoint.remove()
                MatrixFile.create(work, form, fill)
                state = {"n_done": 0, "n_values": 0}
            file = MatrixFile(work, form, **state)
            try:
                _append_all(file, blocks(file.n_done), checkpoint)
            finally:
                file.close()
            checkpoint.require_same_input()
            publish(work, output)
        except KeyboardInterrupt:
            raise
        except BaseException:
            work.unlink(missing_ok=True)
            checkpoint.remove()
            raise
        checkpoint.remove()


def _append_all(
    file: MatrixFile, blocks: Iterator[CompressedBlock], checkpoint: Checkpoint
) -> None:
    def save() -> None:
        checkpoint.save({"n_done": file.n_done, "n_values": file.n_values}, file.handle)

    try:
        # Closed here and not some time later: the reader thread ends before the input is closed.
        with closing(prefetch(blocks)) as stream:
            for unit, block in enumerate(stream, start=1):
                file.append(block)
                if checkpoint.due(unit):
                    save()
    except KeyboardInterrupt as stop:
        save()
        stop.add_note("what is complete is kept; resume=True continues")
        raise
    file.require_complete()
