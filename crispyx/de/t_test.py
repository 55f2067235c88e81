"""Welch's t-test on log-normalized expression."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._jobs.results import Column
from crispyx._jobs.tiles import TileStore
from crispyx._kernels.layout import GroupedGenes
from crispyx._run.workers import in_parallel
from crispyx._stats.batch_welch import MIN_CELLS, batch_welch_tests
from crispyx._stats.moments import Arm
from crispyx._stats.van_elteren import Alternative
from crispyx._stats.welch import welch_tests
from crispyx.de.arguments import Running, alternative_of, rules, select
from crispyx.de.comparison import compare
from crispyx.de.one_pass import BlockTest, Tile
from crispyx.de.results import RankGenesGroupsResult
from crispyx.errors import CrispyxWarning
from crispyx.settings import Engine

ROWS_TOGETHER = 64  # perturbations read back at a time


@dataclass(frozen=True)
class _WelchMethod(BlockTest):
    alternative: Alternative
    name = "t_test"
    looks = True
    takes_variance = True
    min_cells_batch = MIN_CELLS
    columns = {  # noqa: RUF012 - read only
        "X": Column(np.float32, "effect_size"),
        "z_score": Column(np.float64, "z_score"),
        "pvalue": Column(np.float64, "pvalue"),
        "degrees_of_freedom": Column(np.float32, "degrees_of_freedom"),
        "logfoldchanges": Column(np.float32, "logfoldchanges"),
        "pts": Column(np.float32, "pts"),
        "pts_rest": Column(np.float32, "pts_rest"),
    }

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"alternative": self.alternative}

    def prepare(self, stream: GeneStream) -> None:
        stream.summarize()
        if stream.summary.looks_like_counts:
            warnings.warn(
                f"{stream.source.where} holds counts: the t-test runs on "
                "log1p(count / library size * 1e4); normalize first "
                "(cx.pp.normalize_total_log1p) to choose otherwise",
                CrispyxWarning,
                stacklevel=6,
            )
            stream.take_log1p()

    def test(
        self,
        block: GroupedGenes,
        batches: Sequence[GroupedGenes],
        arms: tuple[Arm, Arm],
        engine: Engine,
        n_threads: int,
    ) -> Tile:
        control, perturbed = arms
        difference = perturbed.mean - control.mean
        if batches:
            difference, statistic, pvalue, df = batch_welch_tests(
                batches, self.alternative, engine, n_threads
            )
        elif self.alternative != "two-sided":
            _, statistic, pvalue, df = batch_welch_tests(
                [block], self.alternative, engine, n_threads
            )
        else:
            statistic, pvalue, df = welch_tests(block, control, perturbed, engine, n_threads)
        return {
            "effect_size": difference,
            "z_score": statistic,
            "pvalue": pvalue,
            "degrees_of_freedom": df,
        }

    def finish(self, stream: GeneStream, store: TileStore) -> None:
        starts = range(0, store.n_groups, ROWS_TOGETHER)
        n_silent = sum(in_parallel(partial(_n_on_one_arm, store), starts, stream.n_threads))
        if n_silent:
            warnings.warn(
                f"in {n_silent} tests one arm has no cell that expresses the gene: its variance "
                "is 0 and Welch's p far too small for rare genes; wilcoxon_test does not have this "
                "problem, and min_cells_expressed= or the min_pct_ thresholds leave such genes out",
                CrispyxWarning,
                stacklevel=6,
            )
        warn_about_negative(stream)


def _n_on_one_arm(store: TileStore, start: int) -> int:
    """Return how many tests of some rows have an arm that does not express the gene."""
    stop = min(start + ROWS_TOGETHER, store.n_groups)
    pts, pts_rest, z = (store.rows(name, start, stop) for name in ("pts", "pts_rest", "z_score"))
    return int(np.count_nonzero(((pts == 0) != (pts_rest == 0)) & (np.abs(z) > 0)))


def warn_about_negative(stream: GeneStream) -> None:
    """Warn once when values below zero have been seen: fold changes assume log1p data."""
    if stream.summary.negative is not None:
        cell, gene, value = stream.summary.negative
        warnings.warn(
            f"{stream.source.where} holds negative values (first: {value:g} at cell "
            f"{stream.source.obs.index[cell]!r}, gene {stream.source.var.index[gene]!r}); the test "
            "is valid, but logfoldchanges assume log1p data",
            CrispyxWarning,
            stacklevel=7,
        )


def t_test(
    data: Any,
    *,
    perturbation_column: str | None = None,
    groupby: str | None = None,
    control_label: str | None = None,
    reference: str | None = None,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
    min_cells_expressed: int = 0,
    min_pct_ctrl: float = 0.01,
    min_pct_pert: float = 0.002,
    min_pct_both: float | None = None,
    min_mean_ctrl: float = 0.05,
    min_mean_pert: float = 0.005,
    cell_chunk_size: int | None = None,
    output_dir: str | Path | None = None,
    data_name: str | None = None,
    n_jobs: int | None = None,
    verbose: int | bool = False,
    resume: bool = False,
    checkpoint_interval: int | None = None,
    scanpy_format: bool = False,
    memory_limit_gb: float | None = None,
    force: bool = False,
    corr_method: str = "benjamini-hochberg",
    corr_scope: str = "perturbation",
    min_cells_pert: int = 2,
    layer: str | None = None,
    output_path: str | Path | None = None,
    batch_column: str | None = None,
    alternative: str = "two-sided",
    executor: Any = None,
) -> RankGenesGroupsResult:
    r"""Compare the mean log expression of every perturbation with the control.

    .. math::

        t = \frac{\bar x_1 - \bar x_0}{\sqrt{v_1 / n_1 + v_0 / n_0}}

    with Satterthwaite's degrees of freedom and a two-sided p. The input should be normalized and
    log-transformed; counts are normalized and transformed on the fly, with a warning.

    Parameters
    ----------
    data : path, list of paths, crispyx.AnnData or anndata.AnnData
        The screen, or its files (lanes, days); these and an AnnData in memory need ``output_path``
        or ``output_dir``.
    perturbation_column, groupby : str
        obs column of labels (two names of one argument). ``"obsm/NAME"`` takes a cells x
        perturbations table instead, for cells that carry several guides.
    control_label, reference : str or None
        Label of the control (two names of one argument); None infers it. In a table, a control cell
        carries nothing else. ``"rest"`` compares with all labelled cells (in a table, all cells)
        that do not carry the perturbation.
    gene_name_column : str or None
        var column of gene names; None takes the index.
    perturbations : iterable of str or None
        Perturbations to test, which become the rows in this order; None tests all.
    min_cells_expressed : int
        Genes that fewer cells of both arms together express get p = 1 and effect 0.
    min_pct_ctrl, min_pct_pert : float
        A side is low when its fraction of expressing cells is below this and its mean below
        ``min_mean_*``. A gene low on both sides is not tested (NaN).
    min_pct_both : float or None
        Replaces both fractions.
    min_mean_ctrl, min_mean_pert : float
        Mean log1p expression below which a side is low.
    cell_chunk_size : int or None
        Cells read at a time (genes of a CSC file, stored that way); speed and memory only.
    output_dir : path or None
        Folder of the result; None takes the input's.
    data_name : str or None
        Name of the result; None makes ``crispyx_t_test.h5ad``.
    n_jobs : int or None
        Threads; None takes ``crispyx.settings.n_threads``, else all cores, as does -1.
    verbose : bool
        Show a progress bar also where standard error is no terminal.
    resume : bool
        Continue an interrupted run from its checkpoint.
    checkpoint_interval : int or None
        Blocks of genes between two checkpoints; None chooses.
    scanpy_format : bool
        Also write ``uns["rank_genes_groups"]`` as scanpy does.
    memory_limit_gb : float or None
        Memory of the whole process in GB; None uses half of what is free.
    force : bool
        Compute again even when the same result is already there.
    corr_method : {"benjamini-hochberg", "bonferroni"}
        Correction of p-values for the number of tests.
    corr_scope : {"perturbation", "screen"}
        Correct each perturbation's p-values over its genes, or all p-values together.
    min_cells_pert : int
        Perturbations with fewer cells are not tested (NaN, with a warning).
    layer : str or None
        Layer to use instead of X.
    output_path : path or None
        Exact name of the result, instead of ``output_dir`` and ``data_name``.
    batch_column : str or None
        obs column of batches, such as replicates or lanes: means are compared within batches and
        the differences combined, see ``reference.batch_welch``. Batches with fewer than two cells
        of an arm are left out, with their cells; ``pts``, ``logfoldchanges`` and the filters stay
        those of all cells.
    alternative : {"two-sided", "greater", "less"}
        ``"greater"`` asks whether the perturbed cells express more, ``"less"`` whether less.
    executor : {"threads", "processes"}, Executor, dask.distributed.Client or None
        What computes the blocks of genes; None takes ``crispyx.settings.executor``, else the
        threads of this process. Elsewhere than here, ``n_jobs`` is the number of processes or, of
        an executor given, the threads of one block. No number depends on it.

    Returns
    -------
    RankGenesGroupsResult
        Mapping from perturbation to its result; the file is at ``.result_path``.

    Raises
    ------
    InputError, MissingColumnError, MissingFileError, OutputExistsError, CheckpointError
        See the message: it names the place and the way out.

    Notes
    -----
    Source: Welch, Biometrika 34 (1947) 28-35. Reference: ``reference.welch``,
    ``reference.batch_welch``, ``reference.pipelines.t_test``.
    """
    return compare(
        data,
        _WelchMethod(alternative_of(alternative)),
        select(
            perturbation_column,
            groupby,
            control_label,
            reference,
            gene_name_column,
            perturbations,
            layer,
            batch_column,
        ),
        rules(
            (min_pct_ctrl, min_pct_pert, min_pct_both),
            (min_mean_ctrl, min_mean_pert),
            min_cells_expressed,
            min_cells_pert,
            (corr_method, corr_scope),
        ),
        Running(
            output_path=Path(output_path) if output_path is not None else None,
            output_dir=Path(output_dir) if output_dir is not None else None,
            data_name=data_name,
            width=None,
            cell_chunk_size=cell_chunk_size,
            n_jobs=n_jobs,
            memory_limit_gb=memory_limit_gb,
            checkpoint_interval=checkpoint_interval,
            resume=resume,
            force=force,
            scanpy_format=scanpy_format,
            show=True if verbose else None,
            executor=executor,
        ),
    )
