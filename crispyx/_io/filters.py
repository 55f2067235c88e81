"""Compression filters that HDF5 itself does not have: blosc, zstd, lz4 and others."""

from __future__ import annotations

from contextlib import suppress

import h5py


def load_filters(node: h5py.Group | h5py.Dataset) -> None:
    """Make the filters of a matrix available, from hdf5plugin where that is installed.

    The library registers all its filters on import; it is imported only when one is needed. Without
    it, reading fails with a message that says so.
    """
    datasets = [node] if isinstance(node, h5py.Dataset) else list(node.values())
    if all(_available(part) for part in datasets if isinstance(part, h5py.Dataset)):
        return
    with suppress(ImportError):  # the reader reports the filter and the place it is needed at
        import hdf5plugin  # noqa: F401 - registers its filters


def _available(dataset: h5py.Dataset) -> bool:
    settings = dataset.id.get_create_plist()
    codes = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    return all(h5py.h5z.filter_avail(code) for code in codes)
