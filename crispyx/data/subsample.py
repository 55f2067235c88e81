"""Some cells of a data set, drawn at random, as a file."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.chunk_cache import BlockBounds, ChunkCache
from crispyx._io.placed import MatrixForm
from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.subset import Subset
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.subset_job import write_subset
from crispyx._run.fingerprint import fingerprint
from crispyx.data.arguments import PathLike, output_of, positive, whole
from crispyx.data.ondisk import AnnData
from crispyx.errors import InputError


def subsample(
    data: Any,
    n_obs: int | None = None,
    fraction: float | None = None,
    *,
    groupby: str | None = None,
    unit: str | None = None,
    drop_insufficient: bool = False,
    random_state: int = 0,
    chunk_size: int | None = None,
    output_path: PathLike | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    force: bool = False,
    resume: bool = False,
) -> AnnData:
    """Write a copy with some of the cells, drawn at random without replacement.

    The drawn cells keep their order and every slot: layers, obsm, obsp, uns and raw. Which cells of
    a group are drawn depends on the seed, its label and its cells alone, not on other groups.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData, list of paths
        The data set; in memory, ``output_path`` or ``output_dir`` must be given.
    n_obs : int or None
        Exactly so many cells, of each group with ``groupby``.
    fraction : float or None
        Instead: this share of the cells (of each group), above 0, at most 1, rounded to the nearest
        number and never to none.
    groupby : str or None
        obs column, such as that of perturbations; cells without a label are left out. None takes
        all cells as one group.
    unit : str or None
        obs column of what is drawn, each with all its cells of the group, such as guides or
        samples: ``n_obs`` and ``fraction`` count these, and cells without one are left out. None
        draws cells.
    drop_insufficient : bool
        Leave out groups with fewer than ``n_obs`` cells (units), which else are kept whole.
    random_state : int
        Seed.
    chunk_size : int or None
        Cells read at a time, at most (genes of a CSC matrix); speed and memory only.
    output_path, output_dir, data_name
        Where the copy goes; ``crispyx_subsample.h5ad`` beside the input unless given.
    force : bool
        Write again, and replace what stands under the output's name.
    resume : bool
        Continue an interrupted run from its checkpoint.

    Returns
    -------
    AnnData
        Wrapper of the copy. X keeps layout, type and values; stored zeros are left out.

    Raises
    ------
    InputError, MissingColumnError
        Both or neither of ``n_obs`` and ``fraction``; more cells than there are; nothing left.
    OutputExistsError
        Another input's result stands under the output's name.
    """
    if (n_obs is None) == (fraction is None):
        raise InputError("give either n_obs= or fraction=")
    if n_obs is not None:
        n_obs = whole("n_obs", n_obs, 1)
    elif positive("fraction", fraction) > 1:
        raise InputError(f"fraction is {fraction!r}; give a share above 0, at most 1")
    seed = whole("random_state", random_state, 0)
    most = MAX_SEGMENT_MAJOR if chunk_size is None else whole("chunk_size", chunk_size, 1)
    with open_source(data) as source:
        members = _members(source, groupby, unit)
        if groupby is None and n_obs is not None and n_obs > len(members[""]):
            raise InputError(
                f"n_obs is {n_obs} but {source.where} has {len(members[''])} "
                f"{'cells' if unit is None else f'labels in obs column {unit!r}'}"
            )
        cells = _drawn(members, source.shape[0], n_obs, fraction, drop_insufficient, seed)
        if not cells.any():
            raise InputError(
                f"no group of obs column {groupby!r} in {source.where} has {n_obs} "
                f"{'cells' if unit is None else unit}; lower n_obs, or give drop_insufficient=False"
            )
        output = output_of(source, "subsample", output_path, output_dir, data_name)
        parameters = {
            "n_obs": n_obs,
            "fraction": fraction,
            "groupby": groupby,
            "unit": unit,
            "drop_insufficient": drop_insufficient,
            "random_state": seed,
        }
        identity = fingerprint("subsample", source.identity(), parameters)
        if can_reuse(output, identity, force=force):
            return AnnData(output)
        subset = Subset(cells, np.ones(source.shape[1], dtype=bool))
        cache = ChunkCache(source, bounds=BlockBounds(max_major=most))
        n_values = 0
        if source.layout != "dense":
            n_values = subset.count(cache.blocks(), source.layout, drop_zeros=True)
        form = MatrixForm(source.layout, subset.shape, n_values, source.dtype.newbyteorder("="))
        write_subset(source, subset, form, cache.blocks, output, identity, resume=resume)
    return AnnData(output)


def _members(
    source: MatrixSource, groupby: str | None, unit: str | None
) -> dict[str, dict[Any, list[int]]]:
    """Return the cells of every unit of every group; without units each cell is one."""
    n_cells = source.shape[0]
    groups = [""] * n_cells if groupby is None else as_labels(source.obs.column(groupby))
    units = range(n_cells) if unit is None else as_labels(source.obs.column(unit))
    members: dict[str, dict[Any, list[int]]] = {"": {}} if groupby is None else {}
    for cell, (group, name) in enumerate(zip(groups, units, strict=True)):
        if group is not None and name is not None:
            members.setdefault(group, {}).setdefault(name, []).append(cell)
    return members


def _drawn(
    members: dict[str, dict[Any, list[int]]],
    n_cells: int,
    n_obs: int | None,
    fraction: float | None,
    drop_insufficient: bool,
    seed: int,
) -> np.ndarray:
    """Return which cells are drawn (n_cells,) bool."""
    drawn = np.zeros(n_cells, dtype=bool)
    for label, units in members.items():
        cells = list(units.values())
        wanted = n_obs or max(1, math.floor(len(cells) * (fraction or 0) + 0.5))
        if wanted > len(cells) and drop_insufficient:
            continue
        rng = np.random.default_rng([seed, zlib.crc32(label.encode())])
        for chosen in rng.permutation(len(cells))[:wanted]:
            drawn[cells[chosen]] = True
    return drawn
