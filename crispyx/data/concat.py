"""Several data sets joined into one file, streamed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.joined import JoinedRows
from crispyx._io.joined_slots import (
    Joined,
    fill_joined,
    raw_annotations,
    raw_of,
    scratch_of,
    without_matrices,
)
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
from crispyx.errors import CrispyxWarning, InputError

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
    shared_cells: str = "rename",
    pairwise: bool = False,
    raw: bool = True,
    force: bool = False,
    resume: bool = False,
) -> AnnData:
    """Write the cells of several data sets, one after another, into one file.

    X, layers and raw are streamed; obs, obsm and the other annotations are joined in memory as
    ``anndata.concat`` joins them (``merge="same"``, ``uns_merge="same"``). Layers, obsm and raw are
    kept where all data sets have them.

    Parameters
    ----------
    paths : sequence of path, crispyx.AnnData or anndata.AnnData
        At least two; CSR, CSC and dense, in any mixture.
    output_path : path
        Output file, or a zarr store (``.zarr``).
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
    shared_cells : {"rename", "first", "refuse"}
        What the same name in several data sets means. ``rename``: different cells, named apart as
        ``index_unique`` says. ``first``: the same cell, such as controls that every file holds; it
        is written once, from the first, after its values of all genes in common have been seen to
        be the same. ``refuse``: an error.
    pairwise : bool
        Join obsp as well, in memory; cells of different data sets have no entry. As in anndata, it
        is left out unless asked for.
    raw : bool
        Join raw where all have it; its genes are joined as those of X.
    force, resume : bool
        As in :func:`crispyx.data.subsample`.

    Returns
    -------
    AnnData
        Wrapper of the output: X as CSR (dense where all are), in a type that holds all values.

    Raises
    ------
    InputError
        Fewer than two; the same name twice; no gene in common; genes that stand twice; a shared
        cell that is refused, or has other values in another data set.
    OutputExistsError
        Something else stands under the output's name.
    """
    if isinstance(paths, (str, bytes)) or len(paths) < 2:
        raise InputError(f"paths is {paths!r}; give at least two data sets")
    for word, given, known in (
        ("join", join, ("inner", "outer")),
        ("shared_cells", shared_cells, ("rename", "first", "refuse")),
    ):
        if given not in known:
            raise InputError(f"{word} is {given!r}; choose one of {', '.join(map(repr, known))}")
    with ExitStack() as stack:
        parts = [stack.enter_context(open_source(path)) for path in paths]
        names = _names(parts, keys)
        output = Path(output_path).expanduser()
        parameters = {
            "join": join,
            "label": label,
            "keys": names,
            "index_unique": index_unique,
            "shared_cells": shared_cells,
            "pairwise": pairwise,
            "raw": raw,
        }
        source = {"path": None, "files": [part.identity() for part in parts]}
        identity = fingerprint("concat", source, parameters)
        inputs = tuple(path for part in parts for path in part.paths)
        prepare_output(output, inputs, store=True)
        if can_reuse(output, identity, force=force):
            return AnnData(output)
        kept = _kept_cells(parts, shared_cells)
        frame = _annotations(parts, names, kept, join, label, index_unique, pairwise=pairwise)
        genes = list(frame.var_names)
        _require_same_values(parts, kept, genes, scratch_of(parts, output))
        beside = Joined(parts, paths, kept, frame, _raw(parts, join) if raw else None)
        rows = beside.rows(parts, genes, output)
        dense = all(part.layout == "dense" for part in parts)
        n_values = 0 if dense else rows.count()
        form = MatrixForm("dense" if dense else "csr", rows.shape, n_values, rows.dtype)
        prepare_output(output, inputs, form.n_bytes + sum(map(slot_bytes, parts)), store=True)
        write_matrix_file(
            output,
            form,
            rows.blocks,
            partial(fill_joined, joined=beside, identity=identity),
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


def _kept_cells(parts: Sequence[MatrixSource], shared_cells: str) -> list[np.ndarray]:
    """Return which cells of each data set are written (n_cells,) bool."""
    kept = [np.ones(part.shape[0], dtype=bool) for part in parts]
    if shared_cells == "rename":
        return kept
    seen: dict[str, str] = {}
    for part, mask in zip(parts, kept, strict=True):
        for row, name in enumerate(part.obs.index):
            if name not in seen:
                continue
            if shared_cells == "refuse":
                raise InputError(
                    f"cell {name!r} of {part.where} is in {seen[name]} too; give "
                    "shared_cells='rename' where they are different cells, 'first' where they are "
                    "the same"
                )
            mask[row] = False
        seen |= dict.fromkeys(set(part.obs.index) - set(seen), part.where)
    return kept


def _require_same_values(
    parts: Sequence[MatrixSource], kept: list[np.ndarray], genes: list[str], scratch: Path | None
) -> None:
    """Raise when a cell that is left out differs from the one of its name that is kept.

    Compared are sums with random weights of the genes that all data sets have.
    """
    if all(mask.all() for mask in kept):
        return
    weights = np.random.default_rng(0).uniform(1, 2, len(genes))
    for part in parts:
        weights[~np.isin(genes, part.var.index)] = 0
    written: dict[str, float] = {}
    found = JoinedRows(parts, genes, scratch).sums(weights)
    for part, mask, sums in zip(parts, kept, found, strict=True):
        for row, name in enumerate(part.obs.index):
            if mask[row]:
                written.setdefault(name, sums[row])
            elif written[name] != sums[row]:
                raise InputError(
                    f"cell {name!r} of {part.where} has other values than the cell of that name "
                    "before: they are different cells, give shared_cells='rename'"
                )


def _require_unique_genes(part: MatrixSource, way_out: str) -> None:
    if len(set(part.var.index)) < part.shape[1]:
        raise InputError(f"gene names of {part.where} stand more than once; {way_out}")


def _raw(parts: Sequence[MatrixSource], join: str) -> anndata.AnnData | None:
    """Return var and varm of raw, joined; None where not all have raw, or no gene in common."""
    import anndata

    raws = [raw_of(part) for part in parts]
    if None in raws:
        if any(raws):
            warnings.warn(
                "only some of the data sets have raw, which is left out",
                CrispyxWarning,
                stacklevel=3,
            )
        return None
    for raw in raws:
        assert raw is not None
        _require_unique_genes(raw, "make them unique, or give raw=False")
    held = [raw_annotations(part) for part in parts]
    joined = anndata.concat(held, join=join, merge="same", index_unique="-")  # type: ignore[arg-type]
    if not joined.n_vars:
        raise InputError("raw of the data sets has no gene in common; give raw=False")
    return joined


def _annotations(
    parts: Sequence[MatrixSource],
    names: list[str],
    kept: list[np.ndarray],
    join: str,
    label: str,
    index_unique: str | None,
    *,
    pairwise: bool,
) -> anndata.AnnData:
    """Return everything but matrices, joined by anndata."""
    import anndata

    for part in parts:
        _require_unique_genes(part, "make them unique (adata.var_names_make_unique())")
    held = [
        adata if mask.all() else adata[mask].copy()
        for adata, mask in zip(
            (without_matrices(part, pairwise=pairwise) for part in parts), kept, strict=True
        )
    ]
    cells = [name for adata in held for name in adata.obs_names]
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
        pairwise=pairwise,
    )
    joined.uns.pop("crispyx", None)
    if 0 in joined.shape:
        raise InputError(
            f"{' and '.join(part.where for part in parts[:2])} ... have no gene in common; "
            "bring the names of their genes into one form, or give join='outer'"
        )
    return joined
