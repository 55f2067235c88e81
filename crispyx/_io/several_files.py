"""Several files of one screen (lanes, batches, days) as one matrix, without copying any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from crispyx._io.annotations import as_labels, require_column
from crispyx._io.compressed import CompressedStorage, joined
from crispyx._io.matrix import MatrixSource
from crispyx._kernels.layout import CompressedBlock
from crispyx.errors import InputError, InputTypeError

FILE_COLUMN = "file"


class RowsOfParts:
    """Cells of one part after those of another; every part is stored by cells.

    Parameters
    ----------
    parts : sequence of MatrixSource
        CSR or dense matrices of the same genes.
    where : str
        Files and element, for messages.
    """

    def __init__(self, parts: Sequence[MatrixSource], where: str) -> None:
        self._parts, self.where = parts, where
        self._first = np.cumsum([0] + [part.shape[0] for part in parts])
        self.n_major, self.n_minor = int(self._first[-1]), parts[0].shape[1]
        self.dtype = np.result_type(*(part.dtype for part in parts))

    @property
    def n_stored(self) -> int:
        """Number of stored values, explicit zeros included."""
        return sum(part.storage.n_stored for part in self._parts)

    def blocks(
        self, start: int, stop: int, *, max_values: int, max_major: int, as_stored: bool = False
    ) -> Iterator[CompressedBlock]:
        """Yield blocks of whole cells; none holds cells of two files."""
        for part, first in zip(self._parts, self._first[:-1].tolist(), strict=True):
            begin, end = max(start - first, 0), min(stop - first, part.shape[0])
            if begin >= end:
                continue
            for block in part.storage.blocks(
                begin, end, max_values=max_values, max_major=max_major, as_stored=as_stored
            ):
                yield CompressedBlock(
                    block.start + first, block.stop + first, block.values, block.minor, block.ptr
                )


class ColumnsOfParts:
    """Genes of all parts, cells of one part after those of another; every part is stored by genes.

    Parameters
    ----------
    parts : sequence of MatrixSource
        CSC matrices of the same genes.
    where : str
        Files and element, for messages.
    """

    def __init__(self, parts: Sequence[MatrixSource], where: str) -> None:
        self._parts, self.where = parts, where
        self._first = np.cumsum([0] + [part.shape[0] for part in parts])
        self.n_major, self.n_minor = parts[0].shape[1], int(self._first[-1])
        self.dtype = np.result_type(*(part.dtype for part in parts))

    @property
    def n_stored(self) -> int:
        """Number of stored values, explicit zeros included."""
        return sum(part.storage.n_stored for part in self._parts)

    @cached_property
    def _n_before(self) -> np.ndarray:
        """Stored values of all parts before each gene (n_genes + 1,)."""
        storages = [cast(CompressedStorage, part.storage) for part in self._parts]
        return np.sum([storage.indptr for storage in storages], axis=0)

    def blocks(
        self, start: int, stop: int, *, max_values: int, max_major: int, as_stored: bool = False
    ) -> Iterator[CompressedBlock]:
        """Yield blocks of whole genes, up to ``max_values`` values (a longer one alone)."""
        while start < stop:
            limit = self._n_before[start] + max_values
            limit = int(np.searchsorted(self._n_before, limit, side="right")) - 1
            end = min(max(limit, start + 1), start + max_major, stop)
            yield self._block(start, end, as_stored)
            start = end

    def _block(self, start: int, stop: int, as_stored: bool) -> CompressedBlock:
        read = []
        for part in self._parts:
            blocks = part.storage.blocks(
                start, stop, max_values=2**62, max_major=stop - start, as_stored=as_stored
            )
            read.append(joined(list(blocks)))
        ptr = np.sum([block.ptr for block in read], axis=0)
        values = np.empty(ptr[-1], dtype=np.result_type(*(block.values.dtype for block in read)))
        minor = np.empty(ptr[-1], dtype=np.int32)
        filled = ptr[:-1].copy()
        for block, first in zip(read, self._first[:-1], strict=True):
            lengths = np.diff(block.ptr)
            places = np.repeat(filled - block.ptr[:-1], lengths) + np.arange(len(block.minor))
            values[places] = block.values
            minor[places] = block.minor + np.int32(first)
            filled += lengths
        return CompressedBlock(start, stop, values, minor, ptr)


class JoinedAnnotations:
    """Cells of several files, one after another.

    Where names of cells repeat, as barcodes of lanes do, each gets the name of its file in front:
    ``"lane1:AAAC-1"``. Columns are those that all files have, and ``"file"``, the names of the
    files.

    Parameters
    ----------
    parts : sequence of MatrixSource
        The files.
    names : sequence of str
        What each file is called.
    """

    axis = "obs"

    def __init__(self, parts: Sequence[MatrixSource], names: Sequence[str]) -> None:
        self._parts, self._names = [part.obs for part in parts], list(names)
        self._sizes = [part.shape[0] for part in parts]

    @cached_property
    def index(self) -> np.ndarray:
        """Names (n_cells,) str objects."""
        index = np.concatenate([obs.index for obs in self._parts])
        if len(set(index)) == len(index):
            return index
        files = np.repeat(np.array(self._names, dtype=object), self._sizes)
        return files + ":" + index

    @cached_property
    def columns(self) -> list[str]:
        first, *rest = (obs.columns for obs in self._parts)
        common = [name for name in first if all(name in other for other in rest)]
        return common if FILE_COLUMN in common else [*common, FILE_COLUMN]

    def column(self, name: str) -> np.ndarray:
        missing = [
            file
            for file, obs in zip(self._names, self._parts, strict=True)
            if name not in obs.columns
        ]
        if name == FILE_COLUMN and missing:
            return np.repeat(np.array(self._names, dtype=object), self._sizes)
        if missing and len(missing) < len(self._parts):
            require_column(name, self.columns, "obs", f"not every file has it: {missing[0]!r}")
        require_column(name, self.columns, "obs", f"{len(self._parts)} files")
        parts = [obs.column(name) for obs in self._parts]
        if len({part.dtype.kind in "biuf" for part in parts}) > 1:
            parts = [np.array(as_labels(part), dtype=object) for part in parts]
        return np.concatenate(parts)


def join_sources(files: Sequence[Any], open_one: Callable[[Any], MatrixSource]) -> MatrixSource:
    """Open several files of the same genes as one matrix.

    Parameters
    ----------
    files : sequence of paths
        All stored by cells (CSR or dense) or all by genes (CSC).
    open_one : callable
        Opens one of them.

    Raises
    ------
    InputError, InputTypeError
        No file, the same one twice, different genes or another order of them, two ways of storing;
        the message names the file, the place and the way out.
    """
    if not files:
        raise InputError("the list of files is empty")
    parts: list[MatrixSource] = []
    try:
        for file in files:
            parts.append(open_one(file))
            if parts[-1].path is None:
                raise InputTypeError(
                    "a list of files holds something that is no file; give paths, or join "
                    "AnnData in memory with anndata.concat"
                )
            _require_alike(parts)
        names = _file_names([part.path for part in parts if part.path is not None])
        last = "" if len(parts) == 1 else f" to {parts[-1].path}"
        where = f"{len(parts)} files, {parts[0].path}{last} [{parts[0].element}]"
        by_genes = parts[0].layout == "csc"
        storage = (ColumnsOfParts if by_genes else RowsOfParts)(parts, where)
        n_cells = sum(part.shape[0] for part in parts)
        return MatrixSource(
            storage,
            "csc" if by_genes else "csr",
            (n_cells, parts[0].shape[1]),
            JoinedAnnotations(parts, names),
            parts[0].var,
            None,
            parts[0].element,
            parts=tuple(parts),
        )
    except BaseException:
        for part in parts:
            part.close()
        raise


def _require_alike(parts: list[MatrixSource]) -> None:
    """Raise unless the last part goes with the first."""
    first, last = parts[0], parts[-1]
    if last is first:
        return
    if any(last.path == other.path for other in parts[:-1]):
        raise InputError(f"{str(last.path)!r} stands twice in the list of files")
    genes, others = first.var.index, last.var.index
    if not np.array_equal(genes, others):
        absent = sorted(set(genes) ^ set(others))
        if absent:
            holder, lacking = (first, last) if absent[0] in set(genes) else (last, first)
            raise InputError(
                f"{holder.where} has {len(set(genes) ^ set(others))} genes that differ from "
                f"{lacking.where} (first: {absent[0]!r}); keep the genes that all files have"
            )
        at = int(np.flatnonzero(genes != others)[0])
        raise InputError(
            f"{last.where} has its genes in another order than {first.where}: column {at} is "
            f"{others[at]!r} there and {genes[at]!r} here; write it as adata[:, names] with the "
            "names of the first file"
        )
    if (first.layout == "csc") != (last.layout == "csc"):
        raise InputError(
            f"{last.where} is stored as {last.layout.upper()} and {first.where} as "
            f"{first.layout.upper()}; bring them into one form with cx.pp.convert_to_csr "
            "or cx.pp.convert_to_csc"
        )


def _file_names(paths: list[Path]) -> list[str]:
    """Return the shortest names that tell the files apart."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    return (
        [f"{path.parent.name}/{path.stem}" for path in paths]
        if len({(path.parent.name, path.stem) for path in paths}) == len(paths)
        else [str(path) for path in paths]
    )
