"""Where inputs are and where outputs go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from crispyx._io.store_form import store_form
from crispyx._io.zarr_stores import is_address, is_store_name, is_zarr_store
from crispyx._run.budget import size_text
from crispyx.errors import DiskSpaceError, InputError, InputTypeError, MissingFileError


def resolve_data_path(data: Any, *, require_exists: bool = True) -> Path:
    """Return the path on disk behind a path, a crispyx.AnnData or a backed anndata.AnnData.

    Parameters
    ----------
    data : str, pathlib.Path, crispyx.AnnData or backed anndata.AnnData
        What the user gave.
    require_exists : bool
        Check that the file is there.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    TypeError
        An AnnData held in memory, or another type.
    FileNotFoundError
        The path does not exist and ``require_exists`` is True.
    """
    if is_address(data):
        raise InputError(
            f"{data!r} is an address, from which matrices are read; this needs a file: copy it to "
            "this machine"
        )
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
    elif isinstance(getattr(data, "path", None), Path):
        path = data.path
    elif hasattr(data, "isbacked"):
        if not data.isbacked:
            raise InputTypeError(
                "this AnnData lives in memory and has no file; write it with "
                "adata.write_h5ad(path) and give the path"
            )
        if data.is_view:
            raise InputTypeError(
                "this is a selection of a backed AnnData, whose file holds all cells and genes; "
                "write the selection with .copy(filename=path) and give the path"
            )
        path = Path(data.filename)
    else:
        raise InputTypeError(
            f"got a {type(data).__name__}; give a path to an .h5ad file, a crispyx.AnnData or a "
            "backed anndata.AnnData"
        )
    path = path.expanduser()
    path, _ = split_modality(path)
    if require_exists and not path.exists():
        raise MissingFileError(
            f"{str(path)!r} does not exist (looked in {str(Path.cwd())!r} for a relative path)"
        )
    return path


def split_modality(path: Path) -> tuple[Path, str | None]:
    """Return the file and the modality that ``file.h5mu/rna`` or ``file.h5mu/mod/rna`` names.

    Any other path comes back as it is, with None.
    """
    for parent in path.parents:
        if parent.suffix == ".h5mu" and parent.is_file():
            return parent, path.relative_to(parent).as_posix().removeprefix("mod/")
    return path, None


def resolve_output_path(
    input_path: str | os.PathLike[str],
    *,
    suffix: str,
    output_dir: str | os.PathLike[str] | None = None,
    data_name: str | None = None,
    module: str = "crispyx",
) -> Path:
    """Return the conventional name of an output file.

    Without ``data_name`` it is ``{folder}/{module}_{suffix}.h5ad``; with it, ``data_name`` gets the
    prefix ``{module}_`` and the suffix ``_{suffix}`` unless it has them.

    Parameters
    ----------
    input_path : path
        The input; its folder is used when ``output_dir`` is None.
    suffix : str
        What the file holds, such as ``"wilcoxon"``.
    output_dir : path or None
        Folder of the output.
    data_name : str or None
        Name of the data set, to keep several results in one folder apart.
    module : str
        Prefix of the name.

    Returns
    -------
    pathlib.Path
        The output file; nothing is made.
    """
    folder = Path(output_dir) if output_dir is not None else Path(input_path).parent
    if not data_name:
        return folder / f"{module}_{suffix}.h5ad"
    name = data_name.removesuffix(".h5ad")
    if not name or Path(name).name != name:
        raise InputError(f"data_name is {data_name!r}; give a plain file name without folders")
    if not name.startswith(f"{module}_"):
        name = f"{module}_{name}"
    if not name.endswith(f"_{suffix}"):
        name = f"{name}_{suffix}"
    return folder / f"{name}.h5ad"


def work_path(output: Path) -> Path:
    """Return the file that grows beside ``output`` and becomes it."""
    return output.with_name(f".{output.name}.work")


def begun_path(output: Path) -> Path:
    """Return the work file before its first values are in it."""
    return output.with_name(f".{output.name}.work.begun")


def blocks_folder(output: Path, scratch_dir: Path | None = None) -> Path:
    """Return the folder in which blocks of ``output`` are computed one by one.

    It is beside the output, or in a folder of scratch files.
    """
    return (scratch_dir or output.parent) / f"{output.name}.blocks"


def turned_folder(blocks: Path, stage_dir: Path | None, data: Any, contents: str) -> Path:
    """Return the folder of a matrix turned around for the blocks in ``blocks``.

    It is among them, or in a folder of such matrices, under the name of the ``data`` (of the first
    of several files) and what identifies its ``contents``.
    """
    if stage_dir is None:
        return blocks / "turned"
    first = data[0] if isinstance(data, (list, tuple)) else data
    return stage_dir / f"{Path(first).name}-{contents}"


def shrunk_name(
    input_path: Path,
    output_dir: str | os.PathLike[str] | None = None,
    data_name: str | None = None,
) -> Path:
    """Return the conventional name of a result with shrunken fold changes.

    It is the input's with ``_shrunk`` added, in its folder or in ``output_dir``; ``data_name`` is
    treated as by :func:`resolve_output_path`.
    """
    if data_name:
        return resolve_output_path(
            input_path, suffix="shrunk", output_dir=output_dir, data_name=data_name
        )
    folder = Path(output_dir) if output_dir is not None else input_path.parent
    return folder / f"{input_path.stem}_shrunk.h5ad"


def sorted_name(input_path: Path) -> Path:
    """Return the conventional name of a copy with sorted cells: beside the input."""
    return input_path.with_name(f"{input_path.stem}_sorted.h5ad")


def standardized_name(input_path: Path, output_dir: Path) -> Path:
    """Return where the standardized copy of a file is kept."""
    return output_dir / ".cache" / f"standardized_{input_path.stem}.h5ad"


def check_output_name(output: Path, inputs: tuple[Path, ...] = (), *, store: bool = False) -> None:
    """Raise when ``output`` is one of the inputs or a folder, which nothing may replace.

    Parameters
    ----------
    output : pathlib.Path
        Final file.
    inputs : tuple of pathlib.Path
        What is read.
    store : bool
        It may be a zarr store.

    Raises
    ------
    InputError
        Names the output and what it is.
    """
    if output.parts and len(output.parts[0]) > 2 and output.parts[0].endswith(":"):
        raise InputError(
            f"the output {str(output)!r} is an address, to which nothing is written; give a folder "
            "of this machine, and copy what was written"
        )
    for path in inputs:
        if output.exists() and path.exists() and os.path.samefile(output, path):
            raise InputError(f"the output {str(output)!r} is the input itself; give another name")
    if is_store_name(output) and not store:
        raise InputError(
            f"the output {str(output)!r} is named like a zarr store; this is written as an .h5ad "
            "file: give a name that ends in .h5ad"
        )
    if is_store_name(output) and output.is_file():
        raise InputError(f"the output {str(output)!r} is a file, not a zarr store; remove it first")
    if output.is_dir() and not (store and is_store_name(output) and is_zarr_store(output)):
        raise InputError(f"the output {str(output)!r} is a folder; give a file name")


def prepare_output(
    output: Path, inputs: tuple[Path, ...] = (), needed_bytes: int = 0, *, store: bool = False
) -> Path:
    """Check, before work starts, that ``output`` can be written; return it.

    Its folder is created. Where ``store`` allows it, the output may be a zarr store.

    Raises
    ------
    InputError
        The output is one of the inputs, or a folder; its folder is a file.
    PermissionError
        The folder cannot be written to.
    DiskSpaceError
        Less than ``needed_bytes`` are free.
    """
    check_output_name(output, inputs, store=store)
    if is_store_name(output):
        store_form()
        needed_bytes *= 2  # a file first, which becomes the store
    folder = output.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{str(folder)!r} is a file, not a folder for outputs; give another output_dir="
        ) from None
    if not os.access(folder, os.W_OK):
        raise PermissionError(
            f"cannot write into {str(folder)!r}; give output_dir= or output_path= elsewhere"
        )
    require_space(folder, needed_bytes, repr(str(output)), "output_dir=")
    return output


def require_space(folder: Path, needed_bytes: int, what: str, way_out: str) -> None:
    """Raise when ``folder`` has less than ``needed_bytes`` free.

    Raises
    ------
    DiskSpaceError
        Names both numbers, and ``way_out`` to choose another disk with.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise DiskSpaceError(
            f"{what} needs {size_text(needed_bytes)} but {str(folder)!r} has {size_text(free)} "
            f"free; free some space or choose a folder on another disk with {way_out}"
        )
