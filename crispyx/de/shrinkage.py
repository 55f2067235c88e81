"""Shrink the fold changes of a negative binomial result (apeGLM)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from crispyx._io.paths import check_output_name, prepare_output, resolve_data_path, shrunk_name
from crispyx._io.result_file import ResultFile
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.driver import run_units, writing_units
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.results import Column, write_result
from crispyx._jobs.tiles import TileStore
from crispyx._run.fingerprint import file_identity, fingerprint
from crispyx._run.sampling import Sampler
from crispyx._run.threads import resolve_threads
from crispyx._stats.apeglm import Searching
from crispyx.de.nb_old_result import Block, OldResult, require_fits, screen_of
from crispyx.de.nb_passes import Tile
from crispyx.de.nb_shrinkage import SHRUNK_COLUMNS, SHRUNK_FIELDS, Shrinking
from crispyx.de.results import RankGenesGroupsResult
from crispyx.de.storage import load_result
from crispyx.errors import InputError
from crispyx.settings import settings

METHODS = ("stats", "full")
MODES = ("global", "per_comparison")
STORED: Mapping[str, np.dtype] = {**SHRUNK_FIELDS, "pvalue_adj": np.dtype("f8")}
_SAMPLING_SECONDS = 0.02


def shrink_lfc(
    data: Any,
    *,
    output_dir: str | Path | None = None,
    data_name: str | None = None,
    method: str = "stats",
    prior_scale_mode: str = "global",
    min_mu: float = 0.0,
    n_jobs: int = -1,
    batch_size: int = 128,
    profiling: bool = False,
    memory_limit_gb: float | None = None,
    output_path: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    verbose: bool = False,
) -> RankGenesGroupsResult:
    r"""Shrink the fold changes of a result of :func:`nb_glm_test` towards 0 (apeGLM).

    A Cauchy prior, whose scale is estimated from the result, is laid on every fold change; the mode
    and its error replace fold change and standard error. Statistics and p-values stay.

    Parameters
    ----------
    data : path, crispyx.AnnData or backed anndata.AnnData
        Result of :func:`nb_glm_test`.
    output_dir : path or None
        Folder of the new result; None takes the old one's.
    data_name : str or None
        Name of the new result; None adds ``_shrunk`` to the old one's.
    method : {"stats", "full"}
        ``"stats"`` takes the fitted fold change and its standard error for all there is to know.
        ``"full"`` goes back to the counts, which must be where they were and unchanged; it is right
        also where the likelihood is far from normal, at rare genes. See ``docs/nb_shrinkage.md``.
    prior_scale_mode : {"global", "per_comparison"}
        One scale for all perturbations, or one for each as in PyDESeq2.
    min_mu : float
        Means of the likelihood are held at or above it (``"full"``); 0 holds none.
    n_jobs : int
        Threads; -1 takes all cores. Never a number.
    batch_size : int
        Genes of a block (``"full"``), more where each comparison has size factors of its own.
        Never a number.
    profiling : bool
        Note seconds and peak memory (MB of the process) in ``uns["profiling"]``.
    memory_limit_gb : float or None
        Memory of the whole process in GB; None uses half of what is free.
    output_path : path or None
        Exact name of the new result, instead of ``output_dir`` and ``data_name``.
    resume : bool
        Continue an interrupted run from its checkpoint.
    force : bool
        Compute again even when the same result is already there.
    verbose : bool
        Show a progress bar also where standard error is no terminal.

    Returns
    -------
    RankGenesGroupsResult
        All tables of the old result. X, ``logfoldchanges`` and ``logfoldchange`` hold shrunken fold
        changes, ``standard_error`` their errors, ``logfoldchange_raw`` the fitted ones.

    Raises
    ------
    InputError, MissingFileError, OutputExistsError, CheckpointError
        No such result, or one already shrunk; counts that are gone or changed (``"full"``).

    Notes
    -----
    With ``preset="pydeseq2"`` in the result, ``"full"`` gives PyDESeq2's mode and error. Source:
    Zhu, Ibrahim and Love, Bioinformatics 35 (2019) 2084-2092. Reference: ``reference.apeglm``.
    """
    for name, value, allowed in (
        ("method", method, METHODS),
        ("prior_scale_mode", prior_scale_mode, MODES),
    ):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}; choose one of {allowed}")
    if not 0 <= min_mu < float("inf"):
        raise InputError(f"min_mu is {min_mu!r}; give a number >= 0")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; give a whole number >= 1")
    n_threads = resolve_threads(n_jobs)
    path = resolve_data_path(data)
    old = ResultFile(path)
    record = require_fits(path, old)
    output = Path(output_path) if output_path else shrunk_name(path, output_dir, data_name)
    identity = fingerprint(
        "shrink_lfc",
        {**file_identity(path), "element": "X", "shape": [len(old.groups), len(old.genes)]},
        {
            "method": method,
            "prior_scale_mode": prior_scale_mode,
            "min_mu": min_mu if method == "full" else 0.0,
            "profiling": bool(profiling),
            "engine": settings.engine,
        },
    )
    check_output_name(output, (path,))
    if can_reuse(output, identity, force=force):
        return load_result(output)
    with ExitStack() as stack:
        profile = _Profile(stack) if profiling else None
        work = OldResult(old, record, n_threads, memory_limit_gb, settings.engine)
        if method == "full":
            work.open_counts(stack, output, identity, batch_size)
        size = sum(kind.itemsize for kind in STORED.values())
        prepare_output(output, (path,), len(old.groups) * len(old.genes) * size)
        stack.enter_context(writing_units(output))
        scale = work.scales(prior_scale_mode)
        shrinking = Shrinking(
            scale,
            old.notes["lfc_base"] == "log2",
            work.engine,
            n_threads,
            Searching(min_mu=min_mu, literal=bool(record["parameters"]["literal"])),
            work.cells,
        )
        shape = len(old.groups), len(old.genes)
        checkpoint = Checkpoint(output, identity, -(-shape[1] // work.width), None)
        store = TileStore(output, STORED, shape, work.width, checkpoint)
        stack.callback(store.close)
        compute = partial(_shrunk, shrinking=shrinking)
        show = True if verbose else None
        run_units(store, work.blocks, compute, resume=resume, label="shrink_lfc", show=show)
        notes = {
            "lfc_shrinkage_type": "apeglm",
            "shrinkage_method": method,
            "prior_scale_mode": prior_scale_mode,
            "prior_scale": scale,
            "profiling": "NA" if profile is None else profile.notes(),
        }
        _write(output, store, old, notes, identity, bool(record["parameters"]["scanpy_format"]))
    return load_result(output)


class _Profile:
    """Seconds and largest memory of the process since now."""

    def __init__(self, stack: ExitStack) -> None:
        memory = psutil.Process().memory_info
        self._began = time.perf_counter()
        self._sampler = Sampler(lambda: memory().rss, _SAMPLING_SECONDS)
        self._sampler.start()
        stack.callback(self._sampler.stop)

    def notes(self) -> dict[str, Any]:
        """Return what the result notes of it."""
        self._sampler.stop()
        return {
            "shrinkage_seconds": time.perf_counter() - self._began,
            "shrinkage_peak_memory_mb": max(value for _, value in self._sampler.readings) / 1e6,
            "profiling_enabled": True,
        }


def _write(
    output: Path,
    store: TileStore,
    old: ResultFile,
    notes: Mapping[str, Any],
    identity: Mapping[str, Any],
    scanpy_format: bool,
) -> None:
    columns = dict(SHRUNK_COLUMNS)
    x = columns.pop("X")
    columns["pvalue_adj"] = Column(np.float64, "pvalue_adj")
    kept = {k: v for k, v in old.uns().items() if k not in ("crispyx", "rank_genes_groups")}
    write_result(
        output,
        store,
        screen_of(old),
        x=x,
        layers=columns,
        uns={**kept, **notes},
        fingerprint=identity,
        scanpy_key="rank_genes_groups" if scanpy_format else None,
    )


def _shrunk(block: Block, *, shrinking: Shrinking) -> Tile:
    columns, counts = block
    if counts is None:
        tile = shrinking.of_statistics(columns)
    else:
        tile = shrinking.of_counts(columns, counts)
    return {**tile, "pvalue_adj": columns["pvalue_adj"]}
