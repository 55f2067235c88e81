"""The negative binomial test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from crispyx.de.arguments import Running, rules, select
from crispyx.de.comparison import compare
from crispyx.de.nb_choices import Choices, choose
from crispyx.de.nb_test import NegativeBinomialTest
from crispyx.de.nb_tests import WITHIN_BATCHES
from crispyx.de.results import RankGenesGroupsResult
from crispyx.errors import InputError

PYDESEQ2_BESIDE_COVARIATES = (
    "PyDESeq2's iteration on a design with covariates is crispyx.glm.NBGLMBatchFitter with "
    "build_design_matrix(covariate_columns=...), for cells in memory (docs/nb_glm.md)"
)


def nb_glm_test(
    data: Any,
    *,
    perturbation_column: str | None = None,
    groupby: str | None = None,
    control_label: str | None = None,
    reference: str | None = None,
    covariates: Iterable[str] | None = None,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
    size_factors: npt.ArrayLike | None = None,
    size_factor_method: str = "sparse",
    size_factor_scope: str = "global",
    scale_size_factors: bool = True,
    dispersion: float | None = None,
    dispersion_method: str = "cox-reid",
    dispersion_scope: str = "global",
    share_dispersion: bool = False,
    use_map_dispersion: bool = True,
    shrink_dispersion: bool = True,
    optimization_method: str = "lbfgsb",
    max_iter: int = 25,
    tol: float = 1e-6,
    min_mu: float = 0.5,
    poisson_init_iter: int = 5,
    chunk_size: int | None = None,
    irls_batch_size: int | None = 128,
    min_cells_expressed: int = 0,
    min_pct_ctrl: float = 0.01,
    min_pct_pert: float = 0.002,
    min_pct_both: float | None = None,
    min_mean_ctrl: float = 0.05,
    min_mean_pert: float = 0.005,
    min_total_count: float = 1.0,
    cook_filter: bool = False,
    lfc_shrinkage_type: str = "none",
    lfc_base: str = "log2",
    corr_method: str = "benjamini-hochberg",
    se_method: str = "sandwich",
    output_dir: str | Path | None = None,
    data_name: str | None = None,
    scanpy_format: bool = False,
    verbose: int | bool = False,
    profiling: bool = False,
    resume: bool = False,
    checkpoint_interval: int | None = None,
    memory_limit_gb: float | None = None,
    max_dense_fraction: float = 0.3,
    n_jobs: int | None = None,
    use_control_cache: bool = True,
    freeze_control: bool | None = None,
    force: bool = False,
    preset: str | None = None,
    corr_scope: str = "perturbation",
    min_cells_pert: int = 2,
    layer: str | None = None,
    output_path: str | Path | None = None,
    test: str = "wald",
    batch_column: str | None = None,
    control_genes: Iterable[str] | None = None,
    seed: int = 0,
    most_sets: int = 100_000,
    executor: Any = None,
) -> RankGenesGroupsResult:
    r"""Fit a negative binomial model to the counts of every gene in every comparison.

    .. math::

        y_i \sim \mathrm{NB}(\mu_i, \alpha), \qquad \mathrm{Var}\, y_i = \mu_i + \alpha \mu_i^2,
        \qquad \log \mu_i = \log s_i + \beta_0 + \beta_1 d_i

    with size factors s, d = 1 in the perturbed cells, a dispersion :math:`\alpha` for each gene
    that is shrunk to its trend over the mean, and a test of :math:`\beta_1 = 0`. By default that is
    Wald's; where one arm has no count at all, the likelihood ratio is tested instead.
    ``preset="calibrated"`` keeps its level at single-cell counts, see ``docs/calibration.md``. The
    input must be counts.

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
        carries nothing else. ``"rest"`` is refused: there is one control for all perturbations.
    covariates : iterable of str or None
        obs columns to fit beside, see ``docs/methods/covariates.md``: text, booleans and categories
        jointly in both arms, additively; numbers (integers too) by their slopes in the control.
        Dispersions are then fitted with a mean for every perturbation in every combination of
        categories. The test "lrt" compares with the covariates alone, "score" and "permutation"
        compare within categories. Needs scopes "global" and the default optimizer.
    gene_name_column : str or None
        var column of gene names; None takes the index.
    perturbations : iterable of str or None
        Perturbations to test, which become the rows in this order; None tests all. Dispersions
        shared by all comparisons come from the control and these.
    size_factors : array_like (n_cells,) or None
        Size factors of all cells of the file, taken as they are; None estimates them.
    size_factor_method : {"sparse", "deseq2", "poscounts", "total"}
        ``"sparse"``: median of ratios over each cell's non-zeros. ``"deseq2"``: over the genes that
        all cells express; an error where there is none. ``"poscounts"``: DESeq2's variant for
        zeros. ``"total"``: total counts without genes above 5 % of all. See
        ``docs/methods/size_factors.md``.
    size_factor_scope : {"global", "per_comparison"}
        Estimate them once from all cells of the file, or from the control and each perturbation.
    scale_size_factors : bool
        Divide them by their geometric mean.
    dispersion : float or None
        A number fixes the dispersion of all genes; None estimates.
    dispersion_method : {"cox-reid", "moments"}
        Maximum of the Cox-Reid adjusted likelihood, or method of moments within groups.
    dispersion_scope : {"global", "per_comparison"}
        One dispersion per gene from all groups, each with its own mean, or one from the control and
        each perturbation.
    share_dispersion : bool
        True takes the dispersion of all groups in every comparison, whatever the scope; False lets
        the scope decide.
    use_map_dispersion : bool
        True takes the posterior mode given trend and prior, False the genewise dispersion.
    shrink_dispersion : bool
        Fit trend and prior; False keeps genewise dispersions.
    optimization_method : {"lbfgsb", "irls"}
        ``"lbfgsb"`` finds the maximum of the likelihood (by Newton steps; the name is the
        documented one), ``"irls"`` the fixed point of Fisher scoring with means held at ``min_mu``.
        Without that clamp both agree.
    max_iter : int
        Most steps of a fit.
    tol : float
        Steps shorter than this (``"irls"``: relative changes of the deviance) end a fit.
    min_mu : float
        Smallest fitted mean of ``"irls"``; ``"lbfgsb"`` needs none.
    poisson_init_iter : int
        Above 0, fits start at the Poisson solution (which is in closed form); 0 starts at 0.
    chunk_size : int or None
        Genes per block; speed and memory only. None chooses by the memory budget.
    irls_batch_size : int or None
        Bounds the memory of a block of genes: by what dense counts, means, weights and working
        responses of so many genes would take, though nothing is dense here. None leaves it to
        ``chunk_size``. Speed and memory only.
    min_cells_expressed : int
        Genes that fewer cells of both arms together express get p = 1 and effect 0.
    min_pct_ctrl, min_pct_pert : float
        A side is low when its fraction of expressing cells is below this and its mean below
        ``min_mean_*``. A gene low on both sides is not tested (NaN).
    min_pct_both : float or None
        Replaces both fractions.
    min_mean_ctrl, min_mean_pert : float
        Mean of count / size factor below which a side is low.
    min_total_count : float
        Genes whose counts in all cells that take part add up to less are not tested (NaN).
    cook_filter : bool
        Withhold p-values (NaN) that rest on one count, by Cook's distance. ``preset="pydeseq2"``
        also replaces such counts and fits again, as PyDESeq2 does.
    lfc_shrinkage_type : {"none", "apeglm"}
        ``"apeglm"`` shrinks the fold changes as :func:`shrink_lfc` does with ``method="full"``: one
        prior for all perturbations, or one for each with ``preset="pydeseq2"``.
    lfc_base : {"log2", "ln"}
        Unit of fold changes and standard errors.
    corr_method : {"benjamini-hochberg", "bonferroni"}
        Correction of p-values for the number of tests.
    se_method : {"sandwich", "fisher", "robust"}
        ``"sandwich"`` is PyDESeq2's H M H with M of the model, ``"fisher"`` the inverse information
        (equal to about 1e-6), ``"robust"`` takes M from the residuals.
    output_dir : path or None
        Folder of the result; None takes the input's.
    data_name : str or None
        Name of the result; None makes ``crispyx_nb_glm.h5ad``.
    scanpy_format : bool
        Also write ``uns["rank_genes_groups"]`` as scanpy does.
    verbose : bool
        Show a progress bar also where standard error is no terminal, and log each perturbation at
        level DEBUG (logger ``crispyx.de``).
    profiling : bool
        Note seconds and peak memory (MB of the process) in ``uns["profiling"]``.
    resume : bool
        Continue an interrupted run from its checkpoint.
    checkpoint_interval : int or None
        Blocks of genes between two checkpoints; None chooses.
    memory_limit_gb : float or None
        Memory of the whole process in GB; None uses half of what is free.
    max_dense_fraction : float
        Share of that memory for the dense tables of a block of genes; nothing of cells x genes is
        ever dense.
    n_jobs : int or None
        Threads; None takes ``crispyx.settings.n_threads``, else all cores, as does -1.
    use_control_cache : bool
        Make the sums over the control's cells once for all perturbations where size factors are
        shared; False makes them anew for each, slower and to the same bits.
    freeze_control : bool or None
        False is as ``use_control_cache=False``. True demands the shared sums and raises where
        ``dispersion_scope="global"``, ``shrink_dispersion`` or ``use_control_cache`` is not given.
        Never a number: sums are shared between threads, not sent to workers.
    force : bool
        Compute again even when the same result is already there.
    preset : {"calibrated", "pydeseq2"} or None
        A set of choices, see ``docs/nb_glm.md``. ``"calibrated"``: size factors from totals, one
        dispersion per gene (at most 50), Firth's fold changes with Fisher's standard errors and the
        score test. ``"pydeseq2"`` repeats PyDESeq2's estimates comparison by comparison. An
        argument that asks for something else is refused.
    corr_scope : {"perturbation", "screen"}
        Correct each perturbation's p-values over its genes, or all p-values together.
    min_cells_pert : int
        Perturbations with fewer cells are not tested (NaN, with a warning).
    layer : str or None
        Layer to use instead of X.
    output_path : path or None
        Exact name of the result, instead of ``output_dir`` and ``data_name``.
    test : {"wald", "lrt", "score", "permutation"}
        Where p-values come from: Wald's test; the likelihood ratio; the efficient score with its
        tail by a saddlepoint approximation, doubled, and a guard against more scatter than the
        model has; the same score among random sets of cells (slow). ``z_score`` is always a normal
        deviate of the same p.
    batch_column : str or None
        obs column of lanes, replicates or days, for ``"score"`` and ``"permutation"``: dispersions
        shared by all comparisons are fitted with means of every batch, and the test compares within
        batches. Fold changes and standard errors are over all batches.
    control_genes : iterable of str or None
        Genes whose counts follow depth alone; size factors are estimated from them. None takes all.
    seed : int
        Of the random sets of ``"permutation"``.
    most_sets : int
        Random sets of ``"permutation"``: 1,000, and up to this many for small p; the smallest p is
        2 / (1 + ``most_sets``).
    executor : {"threads", "processes"}, Executor, dask.distributed.Client or None
        What computes the blocks of genes; None takes ``crispyx.settings.executor``, else the
        threads of this process. Elsewhere than here, ``n_jobs`` is the number of processes or, of
        an executor given, the threads of one block. No number depends on it.

    Returns
    -------
    RankGenesGroupsResult
        Mapping from perturbation to its result; the file is at ``.result_path``. Its layers also
        hold intercepts, standard errors, dispersions, convergence and a ``status`` that says why a
        p-value is NaN, see ``docs/formats.md``.

    Raises
    ------
    InputError, MissingColumnError, MissingFileError, OutputExistsError, CheckpointError
        See the message: it names the place and the way out.

    Notes
    -----
    Source: Love, Huber and Anders, Genome Biology 15 (2014) 550. Reference: ``reference.nb_glm``.
    """
    if lfc_shrinkage_type not in ("none", "apeglm"):
        raise InputError(
            f"lfc_shrinkage_type is {lfc_shrinkage_type!r}; choose one of ('none', 'apeglm')"
        )
    if lfc_base not in ("log2", "ln"):
        raise InputError(f"lfc_base is {lfc_base!r}; choose one of ('log2', 'ln')")
    if not 0 < max_dense_fraction <= 1:
        raise InputError(f"max_dense_fraction is {max_dense_fraction!r}; give a share, 0 to 1")
    if irls_batch_size is not None and irls_batch_size < 1:
        raise InputError(f"irls_batch_size is {irls_batch_size!r}; give a number >= 1 or None")
    if not min_total_count >= 0:
        raise InputError(f"min_total_count is {min_total_count!r}; give a number >= 0")
    choices = choose(
        Choices(
            size_factor_method=size_factor_method,
            size_factor_scope=size_factor_scope,
            scale_size_factors=bool(scale_size_factors),
            dispersion=dispersion,
            dispersion_method=dispersion_method,
            dispersion_scope=dispersion_scope,
            share_dispersion=bool(share_dispersion),
            use_map_dispersion=bool(use_map_dispersion),
            shrink_dispersion=bool(shrink_dispersion),
            optimization_method=optimization_method,
            max_iter=max_iter,
            tol=tol,
            min_mu=min_mu,
            poisson_init_iter=poisson_init_iter,
            se_method=se_method,
            cook_filter=bool(cook_filter),
            test=test,
            seed=seed,
            most_sets=most_sets,
        ),
        preset,
    )
    beside = () if covariates is None else tuple(covariates)
    if isinstance(covariates, str):
        beside = (covariates,)
    if beside:
        require_what_covariates_need(choices, preset, batch_column)
        if lfc_shrinkage_type != "none":
            raise InputError(
                "lfc_shrinkage_type='apeglm' goes back to the counts without covariates; leave it "
                "out and give the result to shrink_lfc(method='stats')"
            )
    if batch_column is not None:
        require_a_test_within_batches(choices)
    if freeze_control:
        _require_what_freezing_needs(choices, use_control_cache)
    return compare(
        data,
        NegativeBinomialTest(
            choices,
            preset,
            size_factors,
            None if control_genes is None else tuple(control_genes),
            beside,
            float(min_total_count),
            lfc_base == "log2",
            use_control_cache and freeze_control is not False,
            irls_batch_size,
            max_dense_fraction,
            lfc_shrinkage_type == "apeglm",
            bool(profiling),
            bool(verbose),
        ),
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


def _require_what_freezing_needs(choices: Choices, use_control_cache: bool) -> None:
    missing = [
        wanted
        for wanted, there in (
            ("dispersion_scope='global'", choices.dispersion_scope == "global"),
            ("shrink_dispersion=True", choices.shrink_dispersion),
            ("use_control_cache=True", use_control_cache),
        )
        if not there
    ]
    if missing:
        raise InputError(
            f"freeze_control=True needs {' and '.join(missing)}; leave freeze_control=None: it "
            "never changes a number"
        )


def require_a_test_within_batches(choices: Choices) -> None:
    """Refuse choices that cannot take ``batch_column=``."""
    if choices.test not in WITHIN_BATCHES:
        raise InputError(
            "batch_column= is for the tests that compare within batches: test='score' or "
            f"'permutation', or preset='calibrated'. With test={choices.test!r} name the column "
            "among covariates= instead"
        )
    for name, is_global in (
        ("dispersion_scope", choices.shares_dispersion),
        ("size_factor_scope", choices.size_factor_scope == "global"),
    ):
        if not is_global:
            raise InputError(f"batch_column= needs {name}='global'; it is 'per_comparison'")


def require_what_covariates_need(
    choices: Choices, preset: str | None, batch_column: str | None
) -> None:
    """Refuse choices that cannot take ``covariates=``."""
    if batch_column is not None:
        raise InputError(
            f"covariates= and batch_column= are both given; name {batch_column!r} among the "
            "covariates and leave out batch_column="
        )
    if preset == "pydeseq2":
        raise InputError(
            "preset='pydeseq2' compares two arms and takes no covariates; leave it out, or take "
            f"preset='calibrated', which does. {PYDESEQ2_BESIDE_COVARIATES}"
        )
    for name, is_fit, way_out in (
        (
            "size_factor_scope='global'",
            choices.size_factor_scope == "global",
            "leave size_factor_scope= out, or give size_factors= of your own",
        ),
        (
            "dispersion_scope='global'",
            choices.shares_dispersion,
            "leave dispersion_scope= out, or give dispersion= one for all",
        ),
        (
            "optimization_method='lbfgsb'",
            choices.optimization_method == "lbfgsb",
            f"leave optimization_method= out. {PYDESEQ2_BESIDE_COVARIATES}",
        ),
        (
            "cook_filter=False",
            not choices.cook_filter,
            "leave cook_filter= out; se_method='robust' is less moved by single counts",
        ),
    ):
        if not is_fit:
            raise InputError(f"covariates= needs {name}; {way_out}")
