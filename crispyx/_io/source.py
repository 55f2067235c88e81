"""One door to a matrix, whatever holds it: file or AnnData, CSR, CSC or dense, X or a layer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crispyx._io.annotations import FrameAnnotations, file_annotations
from crispyx._io.columns import ChosenAnnotations, choose_columns, columns_of_kind
from crispyx._io.compressed import CompressedStorage
from crispyx._io.damage import read_stored, reading_structure
from crispyx._io.dense import DenseStorage
from crispyx._io.filters import load_filters
from crispyx._io.journal import is_locked_for_writing, recover
from crispyx._io.matrix import READ_VALUES, Layout, MatrixSource, MatrixSummary, Storage
from crispyx._io.modalities import (
    choose_modality,
    is_mudata_file,
    kinds_in_file,
    kinds_in_memory,
    modalities_in_memory,
)
from crispyx._io.paths import resolve_data_path, split_modality
from crispyx._io.several_files import join_sources
from crispyx._io.tenx import (
    TenxMatrix,
    find_tenx_folder,
    is_tenx_file,
    open_tenx_file,
    read_tenx_folder,
)
from crispyx._io.zarr_stores import (
    is_address,
    is_array,
    is_group,
    is_zarr_store,
    open_store,
    readable,
    require_file,
)
from crispyx.errors import InputError

__all__ = ["READ_VALUES", "MatrixSource", "MatrixSummary", "open_file", "open_source"]

_unlocked: ContextVar[bool] = ContextVar("unlocked", default=False)


def open_source(
    data: Any,
    layer: str | None = None,
    *,
    modality: str | None = None,
    feature_type: str | None = None,
) -> MatrixSource:
    """Open the matrix of a file or of an AnnData without reading it.

    Parameters
    ----------
    data : path, crispyx.AnnData, anndata.AnnData or MuData (backed or in memory), list of paths
        What holds the matrix: ``.h5ad``, ``.h5mu`` (``file.h5mu/rna`` names a modality), a zarr
        store of an AnnData, a 10x ``.h5`` file, or a 10x ``mtx`` folder, which is read into memory.
        A list of files is one matrix, the cells of one file after those of another.
    layer : str or None
        Layer to use instead of X.
    modality : str or None
        Modality of MuData; None takes that of gene expression.
    feature_type : str or None
        Kind of features to use, where var names kinds. None takes all features, and of 10x files
        the genes.

    Raises
    ------
    MissingFileError, InputError, InputTypeError
        No such file; a file of another kind; no such matrix, or one without cells or genes.
    MemoryBudgetError
        An ``mtx`` folder that does not fit into memory.
    """
    if isinstance(data, (list, tuple)):
        choice = {"modality": modality, "feature_type": feature_type}
        return join_sources(data, partial(open_source, layer=layer, **choice))
    element = "X" if layer is None else f"layers/{layer}"
    held = modalities_in_memory(data)
    if held is not None:
        data = held[choose_modality(kinds_in_memory(held), modality, "the MuData in memory")]
        modality = None
    if not isinstance(data, (str, os.PathLike)) and getattr(data, "isbacked", None) is False:
        _require_no_modality(modality, "an AnnData")
        return _from_memory(data, layer, element, feature_type)
    if is_address(data):
        _require_no_modality(modality, data)
        return _from_zarr(data, element, feature_type)
    if isinstance(data, (str, os.PathLike)):
        modality = modality or split_modality(Path(data).expanduser())[1]
    path = resolve_data_path(data)
    folder = find_tenx_folder(path)
    if folder is not None:
        _require_no_modality(modality, str(folder))
        return _from_tenx(read_tenx_folder(folder), folder, layer, feature_type, None)
    if is_zarr_store(path):
        _require_no_modality(modality, str(path))
        return _from_zarr(path, element, feature_type)
    source = _from_file(path, element, modality, feature_type)
    backed = getattr(data, "isbacked", False) and not isinstance(getattr(data, "path", None), Path)
    if backed and isinstance(source._owner, h5py.File):
        # A backed anndata.AnnData keeps obs and var in memory, where they may have been changed.
        source.obs = FrameAnnotations(data.obs, "obs", str(source.path))
        var = FrameAnnotations(data.var, "var", str(source.path))
        chosen = source.columns
        source.var = var if chosen is None else ChosenAnnotations(var, np.flatnonzero(chosen))
    return source


def modality_kinds(data: Any) -> tuple[dict[str, set[str]], str]:
    """Return the modalities of MuData with their kinds of features, and a name for messages.

    There are none in any other data, and none to choose from where the path names one.
    """
    held = modalities_in_memory(data)
    if held is not None:
        return kinds_in_memory(held), "the MuData in memory"
    if not isinstance(data, (str, os.PathLike)):
        if getattr(data, "isbacked", None) is False:
            return {}, "an AnnData"
    elif split_modality(Path(data).expanduser())[1] is not None:
        return {}, str(data)
    path = resolve_data_path(data)
    if find_tenx_folder(path) is not None or is_zarr_store(path):
        return {}, str(path)
    with open_file(path) as file, reading_structure(str(path)):
        return kinds_in_file(file, path) if is_mudata_file(file) else {}, str(path)


def open_kinds(data: Any) -> dict[str, MatrixSource]:
    """Open a 10x matrix as one matrix for each kind of features; mtx files are read once.

    Raises
    ------
    InputError
        Neither a 10x file nor a 10x folder, or a damaged one.
    """
    path = resolve_data_path(data)
    folder = find_tenx_folder(path)
    if folder is not None:
        matrix, file = read_tenx_folder(folder), None
    else:
        file = open_file(path)
        try:
            with reading_structure(str(path)):
                if not is_tenx_file(file):
                    raise InputError(f"{str(path)!r} is no feature-barcode matrix of 10x")
                matrix = open_tenx_file(file, path)
        except BaseException:
            file.close()
            raise
    held = path if folder is None else folder
    named = "feature_types" in matrix.features
    return {
        kind: _from_tenx(matrix, held, None, kind if named else None, file)
        for kind in matrix.kinds()
    }


def is_h5ad(path: Path) -> bool:
    """Tell whether a file holds one AnnData, as an .h5ad file does.

    Raises
    ------
    InputError
        Neither a 10x folder, nor a zarr store, nor an HDF5 file.
    """
    if find_tenx_folder(path) is not None or is_zarr_store(path):
        return False
    with open_file(path) as file, reading_structure(str(path)):
        return not is_mudata_file(file) and not is_tenx_file(file)


def _require_no_modality(modality: str | None, where: str) -> None:
    if modality is not None:
        raise InputError(f"{where} has no modalities ({modality!r} was given); only MuData has")


@contextmanager
def without_lock() -> Iterator[None]:
    """Open files without a lock: somebody else has one as long as they are read.

    They may stay open afterwards without being in the way of a change in place.
    """
    token = _unlocked.set(True)
    try:
        yield
    finally:
        _unlocked.reset(token)


@contextmanager
def locked(paths: Iterable[Path]) -> Iterator[None]:
    """Have a lock on the HDF5 files among some paths, which others read without one."""
    with ExitStack() as files:
        for path in paths:
            if path.is_file():
                files.enter_context(open_file(path))
        yield


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    InputError
        The file is not HDF5, is cut short, or is open for writing elsewhere; it is a zarr store.
    """
    require_file(path)
    if path.is_dir():
        raise InputError(
            f"{str(path)!r} is a folder without a 10x matrix (matrix.mtx.gz); give the file in it"
        )
    recover(path)
    if _unlocked.get():
        # Where this process has the file open with a lock, it is opened like that again.
        with suppress(OSError):
            return h5py.File(path, "r", locking=False)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        # A thread that computes for a run which was interrupted may have it open without a lock.
        if not is_locked_for_writing(path):
            with suppress(OSError):
                return h5py.File(path, "r", locking=False)
        raise InputError(
            f"{str(path)!r} cannot be read as HDF5 ({error}); it may be cut short, of another "
            "format, or open for writing elsewhere: copy it again, or close it where it is open"
        ) from error


def _from_file(
    path: Path, element: str, modality: str | None, feature_type: str | None
) -> MatrixSource:
    file = open_file(path)
    try:
        with reading_structure(str(path)):
            if is_mudata_file(file):
                modality = choose_modality(kinds_in_file(file, path), modality, str(path))
                return _from_group(file[f"mod/{modality}"], path, element, feature_type)
            _require_no_modality(modality, str(path))
            if is_tenx_file(file):
                layer = None if element == "X" else element
                return _from_tenx(open_tenx_file(file, path), path, layer, feature_type, file)
            return _from_group(file, path, element, feature_type)
    except BaseException:
        file.close()
        raise


def _from_group(
    group: h5py.Group, path: Path, element: str, feature_type: str | None
) -> MatrixSource:
    """Open one AnnData of a file."""
    inside = group.name.strip("/")
    held = f"{path} [{inside}]" if inside else str(path)
    _require_elements(group, element, held)
    node = group[element]
    load_filters(node)
    element = f"{inside}/{element}" if inside else element
    obs, var = (file_annotations(group, axis, held) for axis in ("obs", "var"))
    storage, layout, shape = open_matrix(node, f"{path} [{element}]")
    source = MatrixSource(storage, layout, shape, obs, var, path, element, None, group, group.file)
    return _of_kind(source, feature_type)


def _from_zarr(path: Path | str, element: str, feature_type: str | None) -> MatrixSource:
    group = open_store(path)
    with reading_structure(str(path)):
        _require_elements(group, element, str(path))
        storage, layout, shape = open_matrix(group[element], f"{path} [{element}]")
        obs, var = (FrameAnnotations(read_stored(group[a]), a, str(path)) for a in ("obs", "var"))
    held = None if is_address(path) else Path(path)
    source = MatrixSource(storage, layout, shape, obs, var, held, element, None, group)
    return _of_kind(source, feature_type)


def _require_elements(group: Any, element: str, held: str) -> None:
    for axis in ("obs", "var"):
        if axis not in group:
            raise InputError(
                f"{held} has no {axis!r}; it is not an AnnData (.h5ad, zarr), MuData or 10x file"
            )
    if element not in group:
        layers = list(group["layers"]) if "layers" in group else []
        there = (["X"] if "X" in group else []) + [f"layer {name!r}" for name in layers]
        raise InputError(
            f"{held} has no {element}; it has {', '.join(there) or 'no matrix at all'}; "
            f"{'give one of these as layer=' if layers else 'write the counts to X first'}"
        )


def open_matrix(node: Any, where: str) -> tuple[Storage, Layout, tuple[int, int]]:
    """Return a matrix of a file or store without reading it, its layout and its shape.

    Raises
    ------
    InputError
        It is damaged, or not a matrix.
    """
    with reading_structure(where):
        if is_array(node):
            if node.ndim != 2:
                raise InputError(
                    f"{where} has {node.ndim} dimensions; a cells x genes matrix has 2"
                )
            shape = (int(node.shape[0]), int(node.shape[1]))
            return DenseStorage(readable(node), where), "dense", shape
        layout, shape = sparse_form(node, where)
        values, indices, indptr = (readable(node[name]) for name in ("data", "indices", "indptr"))
        axes = shape if layout == "csr" else shape[::-1]
        return CompressedStorage(values, indices, indptr, *axes, where, layout), layout, shape


def _of_kind(source: MatrixSource, feature_type: str | None) -> MatrixSource:
    """Check the shape, and choose the features of one kind."""
    _check_shape(source, len(source.obs.index), len(source.var.index))
    chosen = columns_of_kind(source.var, feature_type, source.where)
    if chosen is None:
        return source
    return replace(
        source,
        storage=choose_columns(source.storage, source.layout, chosen),  # type: ignore[arg-type]
        shape=(source.shape[0], len(chosen)),
        var=ChosenAnnotations(source.var, chosen),
        element=f"{source.element}, {feature_type}",
        columns=np.isin(np.arange(source.shape[1]), chosen),
    )


def _from_tenx(
    matrix: TenxMatrix,
    path: Path,
    layer: str | None,
    feature_type: str | None,
    file: h5py.File | None,
) -> MatrixSource:
    if layer is not None:
        raise InputError(f"{matrix.where} is a 10x matrix, which has no layers; leave out layer=")
    n_cells, n_features = matrix.storage.n_major, matrix.storage.n_minor
    every = np.arange(n_features)
    kind = feature_type or matrix.default_kind()
    chosen = columns_of_kind(matrix.var(every), kind, matrix.where)
    storage: Storage = matrix.storage
    if chosen is not None:
        storage = choose_columns(matrix.storage, "csr", chosen)
    var = matrix.var(every if chosen is None else chosen)
    element = "X" if chosen is None else f"X, {kind}"
    shape = (n_cells, storage.n_minor)
    source = MatrixSource(storage, "csr", shape, matrix.obs(), var, path, element, None, None, file)
    _check_shape(source, *shape)
    return source


def sparse_form(node: Any, where: str) -> tuple[Layout, tuple[int, int]]:
    encoding = node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", ""))
    kind = str(encoding).removesuffix("_matrix")
    if kind not in ("csr", "csc"):
        raise InputError(f"{where} is stored as {encoding!r}; CSR, CSC and dense matrices are read")
    for part in ("data", "indices", "indptr"):
        if part not in node:
            raise InputError(f"{where} lacks {part!r}; the file is damaged: copy or write it again")
    shape = node.attrs.get("shape", node.attrs.get("h5sparse_shape"))
    if np.shape(shape) != (2,) or np.asarray(shape).dtype.kind not in "iu" or min(shape) < 0:
        raise InputError(f"{where} has shape {shape}; the file is damaged: copy or write it again")
    return kind, (int(shape[0]), int(shape[1]))  # type: ignore[return-value]


def _from_memory(
    adata: Any, layer: str | None, element: str, feature_type: str | None
) -> MatrixSource:
    where = f"AnnData in memory [{element}]"
    chosen = columns_of_kind(FrameAnnotations(adata.var, "var", where), feature_type, where)
    if chosen is not None:
        adata = adata[:, chosen]
    if layer is not None and layer not in adata.layers:
        raise InputError(f"{where}: no such layer; there are: {', '.join(adata.layers) or 'none'}")
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise InputError(
            f"{where}: X is empty; give layer=, there are: {', '.join(adata.layers) or 'none'}"
        )
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    form = getattr(matrix, "format", None)
    layout: Layout
    storage: Storage
    on_disk = getattr(matrix, "group", matrix)  # of an AnnData whose X stays in a file or store
    if is_group(on_disk) or (is_array(on_disk) and hasattr(on_disk, "attrs")):
        storage, layout, shape = open_matrix(on_disk, where)
    elif form in ("csr", "csc"):
        layout = form
        storage = CompressedStorage(
            matrix.data,
            matrix.indices,
            matrix.indptr,
            *(shape if layout == "csr" else shape[::-1]),
            where,
            layout,
        )
    elif form is not None:
        raise InputError(f"{where} is a {form} matrix; convert it with .tocsr()")
    else:
        layout, storage = "dense", DenseStorage(np.asarray(matrix), where)
    obs = FrameAnnotations(adata.obs, "obs", where)
    var = FrameAnnotations(adata.var, "var", where)
    source = MatrixSource(storage, layout, shape, obs, var, None, element, None, adata)
    _check_shape(source, adata.n_obs, adata.n_vars)
    return source


def _check_shape(source: MatrixSource, n_obs: int, n_vars: int) -> None:
    if source.shape != (n_obs, n_vars):
        raise InputError(
            f"{source.where} is {source.shape[0]} x {source.shape[1]} but obs has {n_obs} and var "
            f"{n_vars} entries; the file is damaged: write or copy it again"
        )
    if 0 in source.shape:
        raise InputError(
            f"{source.where} has {n_obs} cells and {n_vars} genes; there is nothing to compute"
        )
