"""A file written again with compressed chunks and the smallest types that hold its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crispyx._io.disk import writable_file
from crispyx._io.record import write_record

SLAB_BYTES = 32_000_000
CHUNK_BYTES = 1_000_000
SMALL = 4096  # bytes below which chunks cost more than they save
AS_THEY_ARE = ("obs", "var", "uns")
WIDTHS = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")


def write_smaller_file(
    source: h5py.File,
    path: Path,
    filters: dict[str, Any],
    values: str,
    fingerprint: Mapping[str, Any],
    *,
    verify: bool,
) -> str | None:
    """Write a copy, see :func:`write_smaller`; return the first array that differs, if verified."""
    with writable_file(path, "w") as target:
        write_smaller(source, target, filters=filters, values=values)
        differs = same_values(source, target) if verify else None
        write_record(target, fingerprint)
    return differs


def write_smaller(
    source: h5py.Group, target: h5py.Group, *, filters: dict[str, Any], values: str
) -> None:
    """Copy everything; arrays outside obs, var and uns in compressed chunks.

    Parameters
    ----------
    source, target : h5py.Group
        The file and its copy.
    filters : dict
        ``compression`` and its options, as h5py takes them.
    values : {"float32", "smallest", "keep"}
        Types to choose from for the values of matrices.
    """
    for name, value in source.attrs.items():
        target.attrs[name] = value
    for name, node in source.items():
        top = source.name == "/"
        if top and name in AS_THEY_ARE:
            # Columns of old files refer to their categories.
            source.copy(name, target, expand_refs=True)
        elif isinstance(node, h5py.Group):
            write_smaller(node, target.create_group(name), filters=filters, values=values)
        elif node.ndim == 0 or node.dtype.hasobject or node.nbytes < SMALL:
            source.copy(name, target)
        else:
            _write_array(node, target, name, filters, _smallest(node, values))


def slabs(node: h5py.Dataset, multiple: int = 1) -> Iterator[slice]:
    """Yield ranges of the first axis of about 32 MB, cut at multiples of so many rows."""
    row = max(1, node.nbytes // max(1, node.shape[0]))
    step = max(1, SLAB_BYTES // (row * multiple)) * multiple
    for start in range(0, node.shape[0], step):
        yield slice(start, min(start + step, node.shape[0]))


def same_values(source: h5py.Group, copy: h5py.Group) -> str | None:
    """Return the name of the first array whose values differ; None when all agree."""
    for name, node in source.items():
        if isinstance(node, h5py.Group):
            found = same_values(node, copy[name])
            if found is not None:
                return found
        elif node.ndim == 0 or node.dtype.hasobject or node.dtype.names:
            continue
        elif node.shape != copy[name].shape or not all(
            _equal(node[span], copy[name][span]) for span in slabs(node)
        ):
            return str(node.name)
    return None


def _write_array(
    node: h5py.Dataset, target: h5py.Group, name: str, filters: dict[str, Any], dtype: np.dtype
) -> None:
    row = max(1, dtype.itemsize * int(np.prod(node.shape[1:])))
    chunks = (int(np.clip(CHUNK_BYTES // row, 1, node.shape[0])), *node.shape[1:])
    made = target.create_dataset(
        name, shape=node.shape, dtype=dtype, chunks=chunks, shuffle=True, **filters
    )
    for key, value in node.attrs.items():
        made.attrs[key] = value
    for span in slabs(node, chunks[0]):
        made[span] = node[span].astype(dtype)


def _smallest(node: h5py.Dataset, values: str) -> np.dtype:
    """Return the smallest type that holds every value exactly, among those allowed."""
    part = node.name.rsplit("/", 1)[-1]
    sparse = isinstance(node.parent.get("indptr"), h5py.Dataset)
    if sparse and part in ("indices", "indptr"):
        # SciPy wants both of one type.
        fits = all(_most(node.parent[name]) < 2**31 for name in ("indices", "indptr"))
        return np.dtype("int32" if fits else "int64")
    if not _is_matrix(node) or values == "keep":
        return node.dtype.newbyteorder("=")
    names = WIDTHS if values == "smallest" else ("float32",)
    candidates = [
        np.dtype(name)
        for name in names
        if np.dtype(name).itemsize < node.dtype.itemsize and node.dtype.kind in "iuf"
    ]
    for span in slabs(node):
        block = node[span]
        candidates = [dtype for dtype in candidates if _exact(block, dtype)]
        if not candidates:
            break
    best = min(candidates, key=lambda dtype: (dtype.itemsize, dtype.kind != "u"), default=None)
    return node.dtype.newbyteorder("=") if best is None else best


def _is_matrix(node: h5py.Dataset) -> bool:
    path = node.name.strip("/").removesuffix("/data")
    return path in ("X", "raw/X") or path.startswith("layers/")


def _most(node: h5py.Dataset) -> int:
    return max((int(node[span].max(initial=0)) for span in slabs(node)), default=0)


def _exact(block: np.ndarray, dtype: np.dtype) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        return _equal(block, block.astype(dtype).astype(block.dtype))


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
