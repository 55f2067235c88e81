"""Wilcoxon's rank-sum test (Mann-Whitney U)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._jobs.results import Column
from crispyx._jobs.tiles import TileStore
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.moments import Arm
from crispyx._stats.rank_sum import rank_sum_tests
from crispyx._stats.van_elteren import Alternative, van_elteren_tests
from crispyx.de.arguments import Running, alternative_of, rules, select
from crispyx.de.comparison import compare
from crispyx.de.one_pass import BlockTest, Tile
from crispyx.de.results import RankGenesGroupsResult
from crispyx.de.t_test import warn_about_negative
from crispyx.errors import CrispyxWarning
from crispyx.settings import Engine


@dataclass(frozen=True)
class _RankSumMethod(BlockTest):
    tie_correct: bool
    alternative: Alternative
    name = "wilcoxon"
    min_cells_batch = 1
    looks = False
    takes_variance = False
    columns = {  # noqa: RUF012 - read only
        "X": Column(np.float64, "effect_size"),
        "z_score": Column(np.float64, "z_score"),
        "pvalue": Column(np.float64, "pvalue"),
        "logfoldchanges": Column(np.float64, "logfoldchanges"),
        "u_statistic": Column(np.float64, "u_statistic"),
        "pts": Column(np.float32, "pts"),
        "pts_rest": Column(np.float32, "pts_rest"),
    }

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"tie_correct": bool(self.tie_correct), "alternative": self.alternative}

    def prepare(self, stream: GeneStream) -> None:
        pass  # ranks need no preparation: what the values are is judged when all have been seen

    def test(
        self,
        block: GroupedGenes,
        batches: Sequence[GroupedGenes],
        arms: tuple[Arm, Arm],
        engine: Engine,
        n_threads: int,
    ) -> Tile:
        if batches or self.alternative != "two-sided":
            u, z, pvalue, effect_size = van_elteren_tests(
                batches or [block], self.tie_correct, self.alternative, engine, n_threads
            )
            return {"effect_size": effect_size, "z_score": z, "pvalue": pvalue, "u_statistic": u}
        u, z, pvalue = rank_sum_tests(block, self.tie_correct, engine, n_threads)
        control, perturbed = arms
        pairs = perturbed.n_cells * control.n_cells.astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            effect_size = u / pairs
        effect_size -= 0.5
        return {"effect_size": effect_size, "z_score": z, "pvalue": pvalue, "u_statistic": u}

    def finish(self, stream: GeneStream, store: TileStore) -> None:
        stream.summarize_members()
        if stream.summary.looks_like_counts:
            warnings.warn(
                f"{stream.source.where} holds counts: ranks then follow the library sizes of the "
                "cells as well, and logfoldchanges assume log1p data; normalize first "
                "(cx.pp.normalize_total_log1p)",
                CrispyxWarning,
                stacklevel=6,
            )
        warn_about_negative(stream)


def wilcoxon_test(
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
    chunk_size: int | None = None,
    tie_correct: bool = True,
    corr_method: str = "benjamini-hochberg",
    output_dir: str | Path | None = None,
    data_name: str | None = None,
    n_jobs: int | None = None,
    verbose: int | bool = False,
    resume: bool = False,
    checkpoint_interval: int | None = None,
    scanpy_format: bool = False,
    memory_limit_gb: float | None = None,
    force: bool = False,
    corr_scope: str = "perturbation",
    min_cells_pert: int = 2,
    layer: str | None = None,
    output_path: str | Path | None = None,
    batch_column: str | None = None,
    alternative: str = "two-sided",
    executor: Any = None,
) -> RankGenesGroupsResult:
    r"""Compare the ranks of every perturbation's cells with the control's, gene by gene.

    .. math::

        z = \frac{U - n_0 n_1 / 2}{\sigma}, \qquad
        \sigma^2 = \frac{n_0 n_1}{12} \, \frac{N^3 - N - T}{N (N - 1)}

    with T the sum of t^3 - t over ties, no continuity correction, two-sided normal p. The input
    should be normalized and log-transformed; it is used as it is, counts with a warning.

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
    chunk_size : int or None
        Genes per block; speed and memory only. None chooses by the memory budget.
    tie_correct : bool
        Subtract T from the variance; False gives smaller z where values are tied.
    corr_method : {"benjamini-hochberg", "bonferroni"}
        Correction of p-values for the number of tests.
    output_dir : path or None
        Folder of the result; None takes the input's.
    data_name : str or None
        Name of the result; None makes ``crispyx_wilcoxon.h5ad``.
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
    corr_scope : {"perturbation", "screen"}
        Correct each perturbation's p-values over its genes, or all p-values together.
    min_cells_pert : int
        Perturbations with fewer cells are not tested (NaN, with a warning).
    layer : str or None
        Layer to use instead of X.
    output_path : path or None
        Exact name of the result, instead of ``output_dir`` and ``data_name``.
    batch_column : str or None
        obs column of batches, such as replicates or lanes: cells are ranked within their batch and
        the batches combined (van Elteren's test). Batches without one of the arms are left out,
        with their cells; ``pts``, ``logfoldchanges`` and the filters stay those of all cells.
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
    Source: Mann and Whitney, Ann. Math. Statist. 18 (1947) 50-60; batches: van Elteren, Bull. Inst.
    Int. Statist. 37 (1960) 351-361. Reference: ``reference.rank_sum``, ``reference.van_elteren``,
    ``reference.pipelines.wilcoxon``.
    """
    return compare(
        data,
        _RankSumMethod(tie_correct, alternative_of(alternative)),
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
            width=chunk_size,
            cell_chunk_size=None,
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
