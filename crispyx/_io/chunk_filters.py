"""Compression of HDF5 chunks, undone outside HDF5 and its lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from struct import Struct

import h5py
import numpy as np

from crispyx._kernels import chunk_filters as kernel

GZIP, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
LZF = h5py.h5z.FILTER_LZF
BLOSC, ZSTD = 32001, 32015  # as registered with the HDF Group
KNOWN = {(), (GZIP,), (LZF,), (SHUFFLE, GZIP), (SHUFFLE, LZF)}
OPTIONAL = {(BLOSC,), (ZSTD,), (SHUFFLE, ZSTD)}  # where numcodecs is installed
BLOSC_HEADER = Struct("<4xI4xI")  # plain and compressed bytes


class ChunkError(Exception):
    """A chunk is not what its filters make; HDF5 is asked for its own opinion."""


@dataclass(frozen=True)
class Filters:
    """The filters of a dataset, in the order they were applied.

    Attributes
    ----------
    codes : tuple of int
        Numbers that HDF5 knows them by.
    width : int
        Bytes of one value.
    """

    codes: tuple[int, ...]
    width: int

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Filters | None:
        """Return the filters of a dataset; None for others than are undone here."""
        settings = dataset.id.get_create_plist()
        codes = tuple(settings.get_filter(i)[0] for i in range(settings.get_nfilters()))
        if codes in KNOWN or (codes in OPTIONAL and _has_codecs()):
            return cls(codes, dataset.dtype.itemsize)
        return None

    def undo(self, packed: bytes | bytearray, mask: int, out: np.ndarray) -> None:
        """Write the bytes of a chunk.

        Parameters
        ----------
        packed : bytes or bytearray
            The chunk as stored.
        mask : int
            Bit i is set when filter i was left out.
        out : numpy.ndarray (n_bytes,) uint8
            Filled.

        Raises
        ------
        ChunkError
            The chunk is damaged.
        """
        plain: bytes | bytearray | np.ndarray = packed
        for place in reversed(range(len(self.codes))):
            if mask >> place & 1:
                continue
            if self.codes[place] == GZIP:
                plain = _inflate(plain, len(out))
            elif self.codes[place] == LZF:
                plain = _expand(plain, len(out))
            elif self.codes[place] != SHUFFLE:
                plain = _decode(self.codes[place], bytes(plain), len(out))
            else:
                kernel.unshuffle(_whole(plain, out), out, self.width)
                return
        out[:] = _whole(plain, out)


def _whole(plain: bytes | bytearray | np.ndarray, out: np.ndarray) -> np.ndarray:
    found = np.frombuffer(plain, dtype=np.uint8)
    if len(found) != len(out):
        raise ChunkError(f"{len(found)} bytes where {len(out)} were expected")
    return found


def _inflate(packed: bytes | bytearray | np.ndarray, n_bytes: int) -> bytes:
    decompress, errors = _inflater()
    try:
        return decompress(packed, bufsize=n_bytes)
    except errors as error:
        raise ChunkError(str(error)) from error


@cache
def _inflater() -> tuple[Callable[..., bytes], type[Exception]]:
    """Return the fastest decompressor that is installed, with the error it raises."""
    try:
        from isal import igzip_lib, isal_zlib
    except ImportError:  # no build for this processor
        import zlib

        return zlib.decompress, zlib.error
    return isal_zlib.decompress, igzip_lib.error  # type: ignore[return-value]


def _expand(packed: bytes | bytearray | np.ndarray, n_bytes: int) -> np.ndarray:
    plain = np.empty(n_bytes, dtype=np.uint8)
    n_found = kernel.decompress_lzf(np.frombuffer(packed, dtype=np.uint8), plain)
    if n_found != n_bytes:
        raise ChunkError(f"{n_found} bytes where {n_bytes} were expected")
    return plain


@cache
def _has_codecs() -> bool:
    try:
        import numcodecs.blosc
        import numcodecs.zstd  # noqa: F401
    except ImportError:
        return False
    return True


def _decode(code: int, packed: bytes, n_bytes: int) -> bytes:
    """Return the bytes of a chunk of blosc or zstd."""
    from numcodecs import blosc, zstd

    try:
        if code == ZSTD:
            return zstd.decompress(packed)
        # The library goes by what the header says of both lengths.
        if BLOSC_HEADER.size > len(packed) or BLOSC_HEADER.unpack_from(packed) != (
            n_bytes,
            len(packed),
        ):
            raise ChunkError("a header of blosc that does not fit its chunk")
        return blosc.decompress(packed)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise ChunkError(str(error)) from error
