"""Changes of an HDF5 file in place that happen at the end, all at once.

While HDF5 changes a file, a killed process may leave it unreadable. Here HDF5 works on the file
through an object that keeps all it writes in memory. At the end, what lies beyond the old end of
the file is appended and made durable (nothing refers to it yet); then the few old bytes that change
are written one right after the other. A process killed before that moment leaves the file as it
was.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from crispyx._io.disk import reporting_full_disk
from crispyx.errors import InputError, OutputBusyError


class _StagedFile(io.RawIOBase):
    """The file as HDF5 would have it: the bytes on disk under those written since."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._old_size = os.fstat(handle).st_size
        self._patches: list[tuple[int, bytes]] = []
        self._tail = bytearray()
        self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        kept = max(0, size - self._old_size)
        self._tail = self._tail[:kept].ljust(kept, b"\0")
        return size

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        n_bytes = max(0, min(len(target), self._size - self._at))
        old = max(0, min(n_bytes, self._old_size - self._at))
        target[:old] = os.pread(self._handle, old, self._at)
        for start, data in self._patches:
            first, last = max(start, self._at), min(start + len(data), self._at + old)
            if first < last:
                target[first - self._at : last - self._at] = data[first - start : last - start]
        begin = self._at + old - self._old_size
        target[old:n_bytes] = self._tail[begin : begin + n_bytes - old]
        self._at += n_bytes
        return n_bytes

    def write(self, buffer: Any) -> int:
        data = memoryview(buffer).cast("B")
        inside = max(0, min(len(data), self._old_size - self._at))
        if inside:
            self._patches.append((self._at, bytes(data[:inside])))
        if inside < len(data):
            begin = self._at + inside - self._old_size
            end = begin + len(data) - inside
            if len(self._tail) < end:
                self._tail.extend(bytes(end - len(self._tail)))
            self._tail[begin:end] = data[inside:]
        self._at += len(data)
        return len(data)

    def commit(self) -> None:
        """Write everything to the file."""
        _write(self._handle, bytes(self._tail), self._old_size)
        os.fsync(self._handle)
        for start, data in self._patches:
            _write(self._handle, data, start)
        os.fsync(self._handle)

    @property
    def _size(self) -> int:
        return self._old_size + len(self._tail)


@contextmanager
def edit_file(path: Path) -> Iterator[h5py.File]:
    """Yield a file to be changed; an error inside leaves it as it was.

    Raises
    ------
    OutputBusyError
        The file is open elsewhere.
    InputError
        The file is not HDF5, or cut short.
    """
    handle = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputBusyError(
                f"{str(path)!r} is open elsewhere; close it there (adata.file.close()) first"
            ) from None
        staged = _StagedFile(handle)
        try:
            file = h5py.File(staged, "r+")
        except OSError as error:
            raise InputError(
                f"{str(path)!r} cannot be read as HDF5 ({error}); it may be cut short or of "
                "another format"
            ) from error
        with file:
            yield file
        with reporting_full_disk(path.parent, str(path)):
            staged.commit()
    finally:
        os.close(handle)


def _write(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
