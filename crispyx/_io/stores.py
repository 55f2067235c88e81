"""AnnData zarr stores, written: a complete HDF5 file becomes one, or takes its name as it is.

Every operation fills an HDF5 work file, which can be gone on with after a kill. Where the output's
name ends in ``.zarr`` that file is copied into a store as the last step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py

from crispyx._io.atomic import commit
from crispyx._io.disk import reporting_full_disk
from crispyx._io.folders import atomic_folder
from crispyx._io.paths import check_output_name
from crispyx._io.store_form import StoreForm, store_form
from crispyx._io.transcribe import copy_element
from crispyx._io.zarr_stores import MARKS, import_zarr, is_store_name, open_store
from crispyx._run.lock import writer_lock
from crispyx._run.quiet import leaving_out
from crispyx.errors import InputError

METADATA = (*MARKS, ".zattrs", ".zmetadata", ".zarray")


def publish(work: Path, output: Path) -> None:
    """Give a complete HDF5 file its final name; as a zarr store where that ends in ``.zarr``.

    Raises
    ------
    InputError
        As :func:`store_form`; an element that a store cannot hold.
    """
    if not is_store_name(output):
        commit(work, output)
        return
    form = store_form()
    check_output_name(output, store=True)  # an exchange removes what has the name
    with atomic_folder(output) as folder, _quiet():
        store = _new_store(folder, form)
        with h5py.File(work, "r") as file:
            store.attrs.update(dict(file.attrs))
            for name in file:
                copy_element(file[name], store, name, sharded=form.sharded)
        _consolidate(store)
    work.unlink()


@contextmanager
def changed_store(path: Path) -> Iterator[Any]:
    """Yield a store open for reading and writing; an error or a kill changes nothing.

    The files of a second store are links to those of the first; what is changed in it is written
    anew, and at the end the two change places in one step.

    Raises
    ------
    PermissionError
        The store, or the folder it is in, cannot be written to.
    InputError
        The file system has no links, or cannot exchange two folders; a damaged store.
    OutputBusyError, DiskSpaceError
        Another process writes it; the disk is full. The store is as it was.
    """
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise PermissionError(
                f"cannot write to {str(place)!r}; copy {path.name!r} to a folder of your own"
            )
    zarr = import_zarr(repr(str(path)))
    open_store(path)
    with (
        reporting_full_disk(path.parent, f"the change of {str(path)!r}"),
        writer_lock(path),
        atomic_folder(path) as folder,
        _quiet(),
    ):
        folder.rmdir()
        shutil.copytree(path, folder, copy_function=_link)
        known = {"use_consolidated": False} if hasattr(zarr.Group, "create_array") else {}
        group = zarr.open_group(str(folder), mode="r+", **known)
        yield group
        if is_consolidated(folder):
            _consolidate(group)


def is_consolidated(store: Path) -> bool:
    """Tell whether the metadata of all arrays stand together at the top of a store."""
    top = store / "zarr.json"
    return (store / ".zmetadata").is_file() or (
        top.is_file() and b'"consolidated_metadata"' in top.read_bytes()
    )


def _link(source: str, target: str) -> None:
    # Metadata are copied: they may be written again in place.
    if os.path.basename(source) in METADATA:
        shutil.copy2(source, target)
        return
    try:
        os.link(source, target)
    except OSError as error:
        raise InputError(
            f"{source!r} cannot be linked ({error}), so that the store cannot be changed safely: "
            "work with an .h5ad file (cx.pp.convert_to_csr writes one)"
        ) from error


def _new_store(folder: Path, form: StoreForm) -> Any:
    zarr = import_zarr("a zarr store")
    if hasattr(zarr.Group, "create_array"):
        return zarr.open_group(str(folder), mode="w", zarr_format=form.version)
    return zarr.open_group(str(folder), mode="w")


def _consolidate(store: Any) -> None:
    import_zarr("a zarr store").consolidate_metadata(store.store)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out zarr's and anndata's warnings of what a user of crispyx did not choose."""
    with ExitStack() as stack:
        for what in (".*Zarr V3.*", ".*[Cc]onsolidated.*", ".*zarr v2.*"):
            stack.enter_context(leaving_out(Warning, what))
        yield
