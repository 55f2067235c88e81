"""Changes to a user's own h5ad file that happen wholly or not at all, without copying the file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from crispyx._io.disk import reporting_full_disk
from crispyx._io.journal import PAGE, apply_pages, lock_file, recover
from crispyx._io.zarr_stores import require_file
from crispyx._run.lock import writer_lock
from crispyx.errors import InputError


@contextmanager
def changed_in_place(path: Path) -> Iterator[h5py.File]:
    """Yield an existing file open for reading and writing; an error or a kill changes nothing.

    The changes appear all at once when the block ends. Replacing a large element costs its size on
    disk twice, since HDF5 does not give back the room of what is deleted.

    Raises
    ------
    PermissionError
        The file cannot be written to.
    OutputBusyError
        It is open elsewhere.
    InputError
        It is not HDF5.
    DiskSpaceError
        The disk is full; the file is as it was.
    """
    require_file(path)
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise PermissionError(
                f"cannot write to {str(place)!r}; copy {path.name!r} to a folder of your own, or "
                "use copy=True where there is one"
            )
    with reporting_full_disk(path.parent, f"the change of {str(path)!r}"), writer_lock(path):
        recover(path)
        handle = os.open(path, os.O_RDWR)
        try:
            lock_file(handle, path)
            old_size = os.fstat(handle).st_size
            overlay = _Overlay(handle, old_size)
            try:
                try:
                    file = h5py.File(overlay, "r+")
                except OSError as error:
                    raise InputError(
                        f"{str(path)!r} cannot be read as HDF5 ({error}); it may be cut short or "
                        "of another format"
                    ) from error
                with file:
                    yield file
                if overlay.failure is not None:
                    raise overlay.failure
            except BaseException as error:
                os.truncate(handle, old_size)
                if overlay.failure is not None and overlay.failure is not error:
                    raise overlay.failure from None  # HDF5 reports what followed from it
                raise
            apply_pages(handle, path, overlay.pages, overlay.size)
        finally:
            os.close(handle)


class _Overlay(io.RawIOBase):
    """A file whose old part is never written: changed pages are kept, the rest is appended.

    HDF5 calls it and cannot pass on an error: the first one is kept, and nothing done after it.

    Attributes
    ----------
    pages : dict of int to bytearray
        Changed pages of the old part by number; the last one may be short.
    size : int
        Length of the changed file.
    failure : BaseException or None
        What went wrong; Ctrl-C may be pressed here as anywhere.
    """

    def __init__(self, handle: int, old_size: int) -> None:
        self.pages: dict[int, bytearray] = {}
        self.size = old_size
        self.failure: BaseException | None = None
        self._handle = handle
        self._old_size = old_size
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        n = max(0, min(len(view), self.size - self._at))
        if self.failure is None:
            try:
                self._read(view[:n])
            except BaseException as error:  # noqa: BLE001 - raised when HDF5 has returned
                self.failure = error
        self._at += n
        return n

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self.failure is None:
            try:
                self._write(view)
            except BaseException as error:  # noqa: BLE001 - raised when HDF5 has returned
                self.failure = error
        self._at += len(view)
        self.size = max(self.size, self._at)
        return len(view)

    def _read(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += self._read_piece(view[done:], self._at + done)

    def _write(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += self._write_piece(view[done:], self._at + done)

    def _read_piece(self, view: memoryview, at: int) -> int:
        number, within = divmod(at, PAGE)
        if number in self.pages and at < self._old_size:
            changed = self.pages[number][within : within + len(view)]
            view[: len(changed)] = changed
            return len(changed)
        stop = at + len(view)
        for page in self.pages:
            if at < page * PAGE < stop:
                stop = page * PAGE
        piece = os.pread(self._handle, stop - at, at)
        view[: len(piece)] = piece
        # Allocated, but not written yet: such bytes read as zeros.
        view[len(piece) : stop - at] = bytes(stop - at - len(piece))
        return stop - at

    def _write_piece(self, view: memoryview, at: int) -> int:
        if at >= self._old_size:
            return os.pwrite(self._handle, view, at)
        number, within = divmod(at, PAGE)
        if number not in self.pages:
            length = min(PAGE, self._old_size - number * PAGE)
            self.pages[number] = bytearray(os.pread(self._handle, length, number * PAGE))
        page = self.pages[number]
        n = min(len(view), len(page) - within)
        page[within : within + n] = view[:n]
        return n
