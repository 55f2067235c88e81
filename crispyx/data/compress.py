"""A file that takes less space."""

from __future__ import annotations

from pathlib import Path

from crispyx._io.atomic import atomic_path
from crispyx._io.compression import write_smaller_file
from crispyx._io.disk import reporting_full_disk
from crispyx._io.elements import require_h5ad
from crispyx._io.paths import prepare_output, resolve_data_path
from crispyx._io.source import open_file
from crispyx._jobs.outputs import can_reuse
from crispyx._run.fingerprint import file_identity, fingerprint, require_unchanged
from crispyx._run.lock import writer_lock
from crispyx.data.arguments import PathLike
from crispyx.data.ondisk import AnnData
from crispyx.errors import InputError


def compress_h5ad(
    source: PathLike,
    output_path: PathLike | None = None,
    *,
    compression: str = "gzip",
    level: int = 4,
    values: str = "float32",
    verify: bool = True,
    force: bool = False,
) -> AnnData:
    """Write a copy of an .h5ad file that takes less space and holds the same numbers.

    Every array outside obs, var and uns is written in compressed chunks of about 1 MB with byte
    shuffle. Values of X, layers and raw go to a smaller type where it holds every one of them
    exactly, indices and pointers to int32 where they fit. Nothing is loaded whole.

    Parameters
    ----------
    source : path
        The .h5ad file, left as it is. Zarr stores, whose chunks anndata compresses, are refused.
    output_path : path or None
        The copy; None takes ``{stem}_compressed.h5ad`` beside the file.
    compression : {"gzip", "lzf"}
        gzip is smaller, lzf faster to write; both are read in parallel.
    level : int
        Of gzip, 0 to 9.
    values : {"float32", "smallest", "keep"}
        ``float32`` halves wider values where that is exact; ``smallest`` takes the smallest
        integer, or float32, that is exact; ``keep`` leaves types alone.
    verify : bool
        Read both files again and compare every number before the copy gets its name.
    force : bool
        Write again, and replace what stands under the output's name.

    Returns
    -------
    AnnData
        Wrapper of the copy.

    Raises
    ------
    InputError
        No .h5ad file, such as a zarr store; unknown words; the copy differs.
    OutputExistsError
        Something else stands under the output's name.
    """
    if compression not in ("gzip", "lzf"):
        raise InputError(f"compression is {compression!r}; choose 'gzip' or 'lzf'")
    if values not in ("float32", "smallest", "keep"):
        raise InputError(f"values is {values!r}; choose 'float32', 'smallest' or 'keep'")
    if level not in range(10):
        raise InputError(f"level is {level!r}; give a whole number from 0 to 9")
    path = resolve_data_path(source)
    require_h5ad(path)
    output = path.with_name(f"{path.stem}_compressed.h5ad")
    if output_path is not None:
        output = Path(output_path).expanduser()
    prepare_output(output, (path,), path.stat().st_size)
    parameters = {"compression": compression, "level": level, "values": values}
    identity = fingerprint("compressed", file_identity(path), parameters)
    if can_reuse(output, identity, force=force):
        return AnnData(output)
    filters = {"compression": compression}
    if compression == "gzip":
        filters["compression_opts"] = level  # type: ignore[assignment]
    with (
        reporting_full_disk(output.parent, str(output)),
        writer_lock(output),
        atomic_path(output) as draft,
        open_file(path) as before,
    ):
        differs = write_smaller_file(before, draft, filters, values, identity, verify=verify)
        if differs is not None:
            raise InputError(f"{path}: {differs} was not copied exactly; nothing was written")
        require_unchanged(identity)
    return AnnData(output)
