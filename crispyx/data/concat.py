"""Several data sets joined into one file, streamed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crispyx._io.joined import JoinedRows
from crispyx._io.joined_slots import fill_joined, scratch_of, without_matrices
from crispyx._io.paths import prepare_output
from crispyx._io.placed import MatrixForm
from crispyx._io.several_files import FILE_COLUMN
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.subset import slot_bytes
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.matrix_job import write_matrix_file
from crispyx._jobs.outputs import can_reuse
from crispyx._run.fingerprint import fingerprint
from crispyx.data.arguments import PathLike
from crispyx.data.ondisk import AnnData
from crispyx.errors import InputError

if TYPE_CHECKING:
    import anndata

BLOCKS = 100  # between two checkpoints at most


def concat_h5ad(
    paths: Sequence[Any],
    output_path: PathLike,
    *,
    join: str = "inner",
    label: str = FILE_COLUMN,
    keys: Sequence[str] | None = None,
    index_unique: str | None = None,
    force: bool = False,
    resume: bool = False,
) -> AnnData:
    """Write the cells of several data sets, one after another, into one file.

    X and layers are streamed; obs, obsm and the other annotations are joined in memory as
    ``anndata.concat`` joins them (``merge="same"``, ``uns_merge="same"``). Layers and obsm are kept
    where all data sets have them; raw and obsp are not.

    Parameters
    ----------
    paths : sequence of path, crispyx.AnnData or anndata.AnnData
        At least two; CSR, CSC and dense, in any mixture.
    output_path : path
        Output file.
    join : {"inner", "outer"}
        Keep the genes that all have, or those that any has; of a gene that a data set lacks its
        cells have 0, in dense matrices as well.
    label : str
        obs column with the name of each cell's data set.
    keys : sequence of str or None
        Names of the data sets; None takes the names of the files.
    index_unique : str or None
        Make names of cells ``"{name}{index_unique}{key}"``. None keeps them where they differ, and
        makes them ``"{key}:{name}"`` otherwise.
    force : bool
        Write again, and replace what stands under the output's name.
    resume : bool
        Continue an interrupted run from its checkpoint.

    Returns
    -------
    AnnData
        Wrapper of the output: X as CSR (dense where all are), in a type that holds all values.

    Raises
    ------
    InputError
        Fewer than two; the same name twice; no gene in common; genes that stand twice.
    OutputExistsError
        Something else stands under the output's name.
    """
    if isinstance(paths, (str, bytes)) or len(paths) < 2:
        raise InputError(f"paths is {paths!r}; give at least two data sets")
    if join not in ("inner", "outer"):
        raise InputError(f"join is {join!r}; choose 'inner' or 'outer'")
    with ExitStack() as stack:
        parts = [stack.enter_context(open_source(path)) for path in paths]
        names = _names(parts, keys)
        output = Path(output_path).expanduser()
        parameters = {"join": join, "label": label, "keys": names, "index_unique": index_unique}
        source = {"path": None, "files": [part.identity() for part in parts]}
        identity = fingerprint("concat", source, parameters)
        inputs = tuple(path for part in parts for path in part.paths)
        prepare_output(output, inputs)
        if can_reuse(output, identity, force=force):
            return AnnData(output)
        frame = _annotations(parts, names, join, label, index_unique)
        rows = JoinedRows(parts, list(frame.var_names), scratch_of(parts, output))
        dense = all(part.layout == "dense" for part in parts)
        n_values = 0 if dense else rows.count()
        form = MatrixForm("dense" if dense else "csr", rows.shape, n_values, rows.dtype)
        stored = rows.shape[0] * rows.shape[1] if dense else n_values
        needed = stored * (rows.dtype.itemsize + (0 if dense else 4))
        prepare_output(output, inputs, needed + sum(map(slot_bytes, parts)))
        write_matrix_file(
            output,
            form,
            rows.blocks,
            partial(fill_joined, parts=parts, paths=paths, frame=frame, identity=identity),
            Checkpoint(output, identity, BLOCKS, None),
            resume=resume,
        )
    return AnnData(output)


def _names(parts: Sequence[MatrixSource], keys: Sequence[str] | None) -> list[str]:
    if keys is None:
        stems = [part.path.stem if part.path else f"data{i}" for i, part in enumerate(parts)]
        keys = stems if len(set(stems)) == len(stems) else [str(part.path) for part in parts]
    names = [str(key) for key in keys]
    if len(names) != len(parts) or len(set(names)) < len(names):
        raise InputError(f"keys are {names}; give {len(parts)} different names, one per data set")
    return names


def _annotations(
    parts: Sequence[MatrixSource], names: list[str], join: str, label: str, index_unique: str | None
) -> anndata.AnnData:
    """Return everything but matrices, joined by anndata."""
    import anndata

    for part in parts:
        if len(set(part.var.index)) < part.shape[1]:
            raise InputError(
                f"gene names of {part.where} stand more than once; make them unique "
                "(adata.var_names_make_unique())"
            )
    held = [without_matrices(part) for part in parts]
    cells = [name for part in parts for name in part.obs.index]
    if index_unique is None and len(set(cells)) < len(cells):
        for adata, key in zip(held, names, strict=True):
            adata.obs_names = [f"{key}:{name}" for name in adata.obs_names]
    joined = anndata.concat(
        held,
        join=join,  # type: ignore[arg-type]
        label=label,
        keys=names,
        index_unique=index_unique,
        merge="same",
        uns_merge="same",
    )
    joined.uns.pop("crispyx", None)
    if 0 in joined.shape:
        raise InputError(
            f"{' and '.join(part.where for part in parts[:2])} ... have no gene in common; "
            "bring the names of their genes into one form, or give join='outer'"
        )
    return joined
