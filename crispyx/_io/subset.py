"""Copies of an h5ad file with fewer cells and genes: every slot kept, matrices streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from crispyx._io.compressed import CompressedStorage
from crispyx._io.damage import entries, read_stored, reading_structure, require_lengths
from crispyx._io.encode import create_array, nullable_strings
from crispyx._io.matrix import READ_VALUES, MatrixSource
from crispyx._io.placed import MatrixForm
from crispyx._io.record import write_record
from crispyx._io.source import open_matrix, sparse_form
from crispyx._io.writer import copy_slot, write_compressed
from crispyx._io.zarr_stores import is_array, is_group, readable
from crispyx._kernels import expression_counts as kernel
from crispyx._kernels.layout import CompressedBlock

if TYPE_CHECKING:
    import pandas as pd

MAX_MAJOR = 1 << 16


@dataclass(frozen=True)
class Subset:
    """Cells and genes that are kept.

    Attributes
    ----------
    cells : numpy.ndarray (n_cells,) bool
        Cells of the input.
    genes : numpy.ndarray (n_genes,) bool
        Genes of the input.
    var_columns : mapping of str to array (n_kept_genes,)
        Columns that var gains or gets instead of its own.
    """

    cells: np.ndarray
    genes: np.ndarray
    var_columns: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def whole(cls, source: MatrixSource) -> Subset:
        """Return the subset that keeps every cell and gene of a source."""
        n_cells, n_genes = source.shape
        return cls(np.ones(n_cells, dtype=bool), np.ones(n_genes, dtype=bool))

    def among(self, source: MatrixSource) -> Subset:
        """Return the same cells and genes among all columns of the source's file."""
        if source.columns is None:
            return self
        genes = source.columns.copy()
        genes[source.columns] = self.genes
        return replace(self, genes=genes)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of what is kept."""
        return int(self.cells.sum()), int(self.genes.sum())

    def along(self, layout: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks of the stored and of the other axis."""
        return (self.genes, self.cells) if layout == "csc" else (self.cells, self.genes)

    def major_from(self, layout: str, first: int) -> np.ndarray:
        """Return the mask of the stored axis without its first kept vectors."""
        major = self.along(layout)[0]
        return major & (np.cumsum(major) > first)

    def select(
        self, blocks: Iterable[CompressedBlock], layout: str, *, drop_zeros: bool, first: int = 0
    ) -> Iterator[CompressedBlock]:
        """Yield the kept part of each block, from a kept vector on; positions are the subset's."""
        major, minor = self.major_from(layout, first), self.along(layout)[1]
        renumbered = np.where(minor, np.cumsum(minor) - 1, -1).astype(np.int32)
        at = first
        for block in blocks:
            use = np.ascontiguousarray(major[block.start : block.stop])
            n_kept = int(use.sum())
            if not n_kept:
                continue
            values, positions = np.empty_like(block.values), np.empty_like(block.minor)
            ptr = np.empty(n_kept + 1, dtype=np.int64)
            kernel.select_minor(
                block.values,
                block.minor,
                block.ptr,
                use.view(np.uint8),
                renumbered,
                drop_zeros,
                values,
                positions,
                ptr,
            )
            end = ptr[-1]
            yield CompressedBlock(at, at + n_kept, values[:end], positions[:end], ptr)
            at += n_kept

    def count(self, blocks: Iterable[CompressedBlock], layout: str, *, drop_zeros: bool) -> int:
        """Return how many values ``select`` would yield."""
        major, minor = (np.ascontiguousarray(mask).view(np.uint8) for mask in self.along(layout))
        return sum(
            kernel.count_selected(
                block.values,
                block.minor,
                block.ptr,
                major[block.start : block.stop],
                minor,
                drop_zeros,
            )
            for block in blocks
        )


def fill_subset(
    target: h5py.File,
    source: MatrixSource,
    subset: Subset,
    fingerprint: Mapping[str, Any],
) -> None:
    """Write the kept part of every slot but X.

    Layers and raw are streamed and kept value for value; obsm, varm, obsp and varp are cut one by
    one in memory; uns is copied. Categories that no cell or gene has any more are removed, with
    their colors in uns.

    Parameters
    ----------
    target : h5py.File
        The copy, with X in it.
    source : MatrixSource
        The input.
    subset : Subset
        What is kept.
    fingerprint : mapping
        Identity of the result.
    """
    cut_slots(target, source, subset)
    write_record(target, fingerprint)


def cut_slots(target: h5py.File, source: MatrixSource, subset: Subset) -> None:
    """Write the kept part of every slot but X; see :func:`fill_subset`."""
    with nullable_strings():
        if is_group(source._owner):
            kept = subset.among(source)
            _file_slots(source, target, kept)
        else:
            _memory_slots(source._owner or source.as_anndata(), target, subset)


def bytes_of(source: MatrixSource, subset: Subset, form: MatrixForm) -> int:
    """Return about how many bytes the subset takes on disk."""
    return form.n_bytes + slot_bytes(source) * form.shape[0] // len(subset.cells)


def slot_bytes(source: MatrixSource) -> int:
    """Return the bytes, uncompressed, of everything in a file but X; 0 for an AnnData in memory."""
    owner = source._owner
    if not is_group(owner):
        return 0
    with reading_structure(str(source.path or source.where)):
        return sum(_bytes(owner[name]) for name in owner if name != "X")


def _bytes(node: Any) -> int:
    if not is_array(node):
        return sum(_bytes(node[name]) for name in node)
    if isinstance(node, h5py.Dataset) and not node.id.get_storage_size():
        return 0  # claimed, and never written
    return int(np.prod(node.shape or (0,), dtype=np.int64)) * np.dtype(node.dtype).itemsize


def _file_slots(data: MatrixSource, target: h5py.File, subset: Subset) -> None:
    from anndata.io import write_elem

    source, where = data._owner, str(data.path or data.where)
    if "uns" in source:
        copy_slot(source, target, "uns")
    for axis in ("obs", "var"):
        _write_frame(target, axis, data.whole_table(axis), subset)
    for slot, masks in _sliced_slots(subset).items():
        for name, node in entries(source, slot).items():
            value = read_stored(node, tuple(map(len, masks)))
            write_elem(target[slot], name, _cut(value, *masks))
    for name, node in entries(source, "layers").items():
        _stream(node, target["layers"], name, subset, f"{where} [layers/{name}]")
    if "raw" in source:
        _raw(source["raw"], target, subset, where)


def _memory_slots(adata: Any, target: h5py.File, subset: Subset) -> None:
    from anndata.io import write_elem

    del target["uns"]
    write_elem(target, "uns", dict(adata.uns))
    for axis in ("obs", "var"):
        frame = getattr(adata, axis).copy()
        # Text with missing values has an encoding as a category only.
        adata.strings_to_categoricals(frame)
        _write_frame(target, axis, frame, subset)
    for slot, masks in {**_sliced_slots(subset), "layers": (subset.cells, subset.genes)}.items():
        for name, value in getattr(adata, slot).items():
            write_elem(target[slot], name, _cut(value, *masks))
    if adata.raw is not None:
        write_elem(target, "raw", adata.raw[subset.cells])


def _sliced_slots(subset: Subset) -> dict[str, tuple[np.ndarray, ...]]:
    cells, genes = subset.cells, subset.genes
    return {"obsm": (cells,), "varm": (genes,), "obsp": (cells, cells), "varp": (genes, genes)}


def _cut(value: Any, rows: np.ndarray, columns: np.ndarray | None = None) -> Any:
    table = getattr(value, "iloc", None)
    cut = value[np.flatnonzero(rows)] if table is None else table[np.flatnonzero(rows)]
    return cut if columns is None else cut[:, np.flatnonzero(columns)]


def _write_frame(target: h5py.File, axis: str, frame: pd.DataFrame, subset: Subset) -> None:
    import pandas as pd
    from anndata.io import write_elem

    cut = frame.iloc[np.flatnonzero(subset.cells if axis == "obs" else subset.genes)].copy()
    for name in cut.columns:
        if isinstance(cut[name].dtype, pd.CategoricalDtype):
            before = cut[name].cat.categories
            cut[name] = cut[name].cat.remove_unused_categories()
            _drop_colors(target["uns"], f"{name}_colors", before.isin(cut[name].cat.categories))
    if axis == "var":
        for name, values in subset.var_columns.items():
            cut[name] = values
    write_elem(target, axis, cut)


def _drop_colors(uns: h5py.Group, name: str, used: np.ndarray) -> None:
    """Keep scanpy's list of colors as long as the list of categories it belongs to."""
    from anndata.io import write_elem

    if name in uns and isinstance(uns[name], h5py.Dataset) and uns[name].shape == used.shape:
        colors = np.asarray(read_stored(uns[name]))
        del uns[name]
        write_elem(uns, name, colors[used])


def _raw(source: Any, target: h5py.File, subset: Subset, where: str) -> None:
    raw = target.create_group("raw")
    for key, value in source.attrs.items():
        raw.attrs[key] = value
    for name in source:
        if name != "X":
            copy_slot(source, raw, name)
    if "X" in source:
        n_genes = _n_columns(source["X"])
        cells_only = Subset(subset.cells, np.ones(n_genes, dtype=bool))
        _stream(source["X"], raw, "X", cells_only, f"{where} [raw/X]")


def _n_columns(node: Any) -> int:
    if is_array(node):
        return int(node.shape[1]) if node.ndim == 2 else 0
    return sparse_form(node, node.name)[1][1]


def _stream(node: Any, parent: h5py.Group, name: str, subset: Subset, where: str) -> None:
    """Copy the kept part of a cells x genes matrix of any layout, in its own type."""
    lengths = len(subset.cells), len(subset.genes)
    if is_array(node):
        require_lengths(node, node.shape, lengths)
        _stream_dense(readable(node), parent, name, subset)
        return
    if "indptr" not in node:
        from anndata.io import write_elem

        write_elem(parent, name, _cut(read_stored(node, lengths), subset.cells, subset.genes))
        return
    storage, layout, shape = open_matrix(node, where)
    require_lengths(node, shape, lengths)
    assert isinstance(storage, CompressedStorage)  # a group

    def blocks() -> Iterator[CompressedBlock]:
        return storage.blocks(0, storage.n_major, max_values=READ_VALUES, max_major=MAX_MAJOR)

    major, minor = subset.along(layout)
    if minor.all():
        n_values = int(np.diff(storage.indptr)[major].sum())
    else:
        n_values = subset.count(blocks(), layout, drop_zeros=False)
    write_compressed(
        parent,
        name,
        subset.select(blocks(), layout, drop_zeros=False),
        n_values,
        subset.shape,
        dtype=storage.dtype,
        layout=layout,
    )


def _stream_dense(node: Any, parent: h5py.Group, name: str, subset: Subset) -> None:
    target = create_array(parent, name, subset.shape, node.dtype)
    step = max(1, READ_VALUES // max(1, node.shape[1]))
    at = 0
    for start in range(0, node.shape[0], step):
        use = subset.cells[start : start + step]
        if use.any():
            rows = node[start : start + step][use][:, subset.genes]
            target[at : at + len(rows)] = rows
            at += len(rows)
