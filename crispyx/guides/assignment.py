"""Guide counts in, one call per cell out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crispyx._io.source import MatrixSource
from crispyx._run.threads import resolve_threads
from crispyx._stats.guide_rules import quantile_flags
from crispyx._version import __version__
from crispyx.guides.batches import read_batches
from crispyx.guides.calls import (
    BARCODE,
    cell_table,
    guide_table,
    warn_without_counts,
    with_input_columns,
)
from crispyx.guides.counts import (
    CalledCounts,
    call_counts,
    require_unique_names,
)
from crispyx.guides.decide import call_by_grid, call_scores, without_small_counts
from crispyx.guides.fit_calls import warn_about_fits, with_calls
from crispyx.guides.inputs import GUIDE_FEATURES, open_guides
from crispyx.guides.models import GuideModel, resolve_model
from crispyx.guides.score import elsewhere_of, score_counts
from crispyx.settings import settings

if TYPE_CHECKING:
    import anndata
    import pandas as pd


def assign(
    path: Any,
    model: str = "poisson_gauss",
    *,
    min_confidence: float | None = None,
    quantile: float | None = None,
    n_jobs: int | None = None,
    umi_threshold: int | None = None,
    ratio: float | None = None,
    layer: str | None = None,
    exposure: str | None = None,
    priors: bool | None = None,
    n_starts: int | None = None,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    batch_key: str | None = None,
    min_cells_per_batch: int | None = None,
    cut: str | None = None,
    variant: str | None = None,
    min_umi: int | None = None,
    feature_type: str = GUIDE_FEATURES,
    modality: str | None = None,
    executor: Any = None,
) -> anndata.AnnData:
    r"""Call the guide of every cell from guide UMI counts.

    With :math:`y_{ij}` the UMIs of guide j in cell i and :math:`s_i = \sum_j y_{ij}`, guide j is
    called in cell i when

    .. math::

        \text{umi:} \quad & y_{ij} \ge t \\
        \text{max:} \quad & y_{ij} > y_{ik} \text{ for every other guide } k
            \text{, and } y_{ij} \ge t \\
        \text{ratio:} \quad & y_{ij} = \max_k y_{ik} \text{ and } y_{ij} / s_i > t \\
        \text{quantiles:} \quad & y_{ij} / s_i \text{ is among the } \lfloor q n_j \rfloor
            \text{ largest of the guide's } n_j \text{ cells} \\
        \text{mixtures:} \quad & \max_{y \le y_{ij}} P(\text{signal} \mid y, s_i) > c

    and in any case only when :math:`y_{ij} > 0`. The maximum makes a call monotone in the count.

    Parameters
    ----------
    path : path, crispyx.AnnData, anndata.AnnData or MuData (backed or in memory)
        Cells x guides UMI counts: ``.h5ad`` (CSR, CSC or dense), ``.h5mu``, a 10x ``.h5`` file or
        a 10x ``mtx`` folder.
    model : str
        ``umi`` may call several guides in a cell. ``max`` calls one, or none when guides share the
        largest count. ``ratio`` calls one, or several when guides share the largest count.
        ``quantiles`` calls a share of each guide's cells. The mixtures fit every guide:
        ``poisson_gauss`` (log2 of its counts above 0), ``gauss`` (log10 of its counts + 1),
        ``poisson``, ``neg_binomial``, ``binomial`` (its counts given the cell's guide UMIs); or,
        ``beta2`` and ``beta3``, the largest proportion of each cell, where only that guide is
        called.
    min_confidence : float in [0, 1], optional
        Mixtures: posterior that a call must exceed, 0.8 unless given, 0.5 for ``beta2`` and
        ``beta3``. ``ratio``: another name of ``ratio``, since the confidence of its calls is the
        proportion.
    quantile : float in (0, 1], optional
        ``quantiles`` only: share of the guide's cells, 0.1 unless given; on equal proportions the
        earlier cell goes first.
    n_jobs : int, optional
        Threads; None takes ``settings.n_threads``, else every usable core. Calls do not depend on
        it.
    umi_threshold : int >= 1, UMI, optional
        ``umi``: smallest count of a call, 5 unless given. ``max``: the same, no floor unless given.
    ratio : float in [0, 1], optional
        ``ratio`` only: the largest count's share of the cell's guide UMIs must be above it; 0.3
        unless given.
    layer : str, optional
        Layer that holds the counts; None takes X.
    exposure : {"consistent", "crispat"}, optional
        ``poisson`` and ``neg_binomial``: both fit at guide UMIs + 1; the posterior is taken there
        too (``"consistent"``, the default) or, as crispat does, at the guide UMIs themselves.
    priors : bool, optional
        Mixtures but ``gauss``: fit with crispat's priors. True unless given for ``poisson_gauss``,
        ``beta2`` and ``beta3``; False, maximum likelihood, for the models of depth.
    n_starts : int, optional
        Mixtures: deterministic starts of EM, of which the best admissible end is the fit; 6 unless
        given, 4 for the models of depth; 8 for the beta models; up to 32, 8 for the beta models.
    tolerance : float in [1e-14, 0.01], optional
        Mixtures: EM has arrived when no parameter, on its log or logit scale, moves by more; 1e-10
        unless given.
    max_iterations : int >= 1, optional
        Mixtures: steps of EM from each start, 1000 unless given; a guide still moving then is
        ``not_converged``.
    batch_key : str, optional
        Mixtures: obs column of batches (lanes, samples), of any type. One batch unless given; a
        column of one value changes nothing. The models of depth give each batch its own
        background, shrunken towards the others; ``poisson_gauss``, ``gauss`` and the beta models
        are fitted anew in every batch that is large enough and that the fit of all cells describes
        worse by BIC. See :attr:`ScoreResult.batch_fits`.
    min_cells_per_batch : int >= 1, optional
        With ``batch_key``: cells that a batch needs for a fit of its own, 50 unless given.
        ``poisson_gauss`` and ``gauss`` count cells with the guide, the others cells with any.
        Smaller batches take the fit of all cells or, in the models of depth, share one effect.
    cut : {"last_crossing", "grid"}, optional
        ``beta2`` and ``beta3``: call above the proportion from which on the posterior exceeds
        ``min_confidence`` (the default), or as crispat does, above the first of 0.01, 0.02, ...
        (``beta3``: from 0.50 on) at which the signal is the densest component.
    variant : {"exact", "kaichi"}, optional
        Mixtures: ``"kaichi"`` fits what kaichi 0.2.0 fits under that name (other distributions,
        cells and M-steps) and calls where the posterior is at least ``min_confidence``, 0.5 unless
        given (0.8: ``poisson``, ``neg_binomial``, ``binomial``), without fallback. For comparisons
        only.
    min_umi : int >= 1, UMI, optional
        Mixtures: smallest count of a call, whatever the posterior.
    feature_type : str
        Features to take where var column ``feature_types`` names several kinds. An input without
        that column is taken whole.
    modality : str, optional
        Modality of MuData. None takes the one that holds features of that type, else the only one
        with ``crispr``, ``guide``, ``gdo`` or ``grna`` in its name.
    executor : {"threads", "processes"}, Executor, dask.distributed.Client, optional
        What fits the guides of the mixtures that fit them one by one (not the beta models, batches
        or ``priors`` of depth models, which run here); see :func:`crispyx.de.wilcoxon_test`.

    Returns
    -------
    anndata.AnnData (n_cells, n_guides), in memory
        ``X`` : CSR uint32, uint64 when a count needs it
            UMI counts.
        ``layers["assigned"]`` : CSR uint8
            1 for a call.
        ``obs`` (index ``cell_barcode``)
            ``guide_id`` and ``guide_identity`` (categorical): the guide; the API documents both
            names, their values are the same. Where several guides are called it is the one with the
            most UMIs, the first one on ties. Missing when none is. ``umi_count`` (nullable uint32
            or uint64): its UMIs. ``assignment_confidence`` (float32): its posterior for a mixture
            (NaN when the guide has none), its proportion for ``ratio`` and ``quantiles``, else 1;
            NaN without a call. ``is_unassigned``, ``is_multi_infected`` (bool): no guide, several
            guides. ``n_guides_detected`` (uint8, uint16 when needed): guides that pass, with
            ``max`` the number that share the largest count. Then the input's columns.
        ``var``
            ``n_cells_assigned``; ``status``: ``"ok"``, or ``"no_counts"`` for a guide without a
            UMI. For mixtures also ``"too_few"`` (one count), ``"no_separation"`` (all counts equal,
            no admissible fit, or one component is enough by BIC), ``"weak"`` (below ten counts) and
            ``"not_converged"``: those guides are called where ``umi_count`` >= 5, as column
            ``fallback`` says. Further columns: ``threshold``, the smallest count
            (proportion, for beta models) called; ``mean_posterior`` and ``expected_fdr`` of the
            calls; those of :class:`ScoreResult.fits`. Then the input's columns.
        ``uns["crispyx_guides"]``, ``uns["kaichi"]``
            Both ``model``, ``model_params`` and ``version``.
        ``uns["crispyx_guide_batches"]``
            With several batches: :attr:`ScoreResult.batch_fits`.

    Raises
    ------
    InputError
        Model unknown; a parameter out of range or not used by the model; a count that is
        negative, fractional, infinite or NaN; a barcode or guide name that stands twice; no
        features of ``feature_type``; modalities among which none stands out; no cells or no
        guides; a cell without a batch.
    MissingColumnError
        obs has no column ``batch_key``.
    MissingFileError
        No such file.

    Warns
    -----
    CrispyxWarning
        Guides without a UMI in any cell or without a reliable fit; input columns that give way to
        those above.

    Notes
    -----
    Source: the rules and mixtures of crispat (Braunger and Velten, Bioinformatics 40, 2024,
    btae535), fitted to convergence. Reference: ``reference.guide_rules``,
    ``reference.histogram_mixtures``, ``reference.depth_mixtures``, ``reference.beta_mixtures``,
    ``reference.batch_effects``, ``reference.batch_fits``, ``reference.kaichi_mixtures``.
    """
    rule = resolve_model(
        model,
        min_confidence=min_confidence,
        quantile=quantile,
        umi_threshold=umi_threshold,
        ratio=ratio,
        exposure=exposure,
        priors=priors,
        n_starts=n_starts,
        tolerance=tolerance,
        max_iterations=max_iterations,
        batch_key=batch_key,
        min_cells_per_batch=min_cells_per_batch,
        cut=cut,
        variant=variant,
        min_umi=min_umi,
    )
    n_threads, batch_fits = resolve_threads(n_jobs), None
    with open_guides(path, layer, feature_type=feature_type, modality=modality) as source:
        barcodes, guides = source.obs.index, source.var.index
        require_unique_names(barcodes, guides, source.where)
        if rule.is_mixture:
            batches = read_batches(source, rule.batch_key, rule.min_cells_per_batch)
            counts = call_counts(source, None, settings.engine, n_threads)
            scores = score_counts(
                counts,
                rule,
                barcodes,
                guides,
                n_threads,
                batches,
                elsewhere_of(source, executor, n_jobs),
            )
            called = (
                call_by_grid(scores) if rule.cut == "grid" else call_scores(scores, rule.threshold)
            )
            if rule.min_umi is not None:
                called = without_small_counts(called, rule.min_umi)
            var = with_calls(scores.fits, called, rule)
            warn_about_fits(var, source.where)
            batch_fits = scores.batch_fits
        else:
            called = _call_by_rule(source, rule, n_threads)
            var = guide_table(called, guides)
            warn_without_counts(var, source.where)
        given_obs, given_var = source.table("obs"), source.table("var")
    obs = cell_table(called, rule, barcodes, guides)
    return _as_anndata(
        called,
        with_input_columns(obs, given_obs, "obs", reserved=(BARCODE,)),
        with_input_columns(var, given_var, "var"),
        rule,
        batch_fits,
    )


def _call_by_rule(source: MatrixSource, rule: GuideModel, n_threads: int) -> CalledCounts:
    if rule.rule != "quantiles":
        return call_counts(source, rule, settings.engine, n_threads)
    counts = call_counts(source, None, settings.engine, n_threads)
    proportions = counts.counts / counts.depth[counts.cells]
    flags = quantile_flags(
        counts.shape, counts.cells, counts.guides, counts.counts, rule.threshold, settings.engine
    )
    return replace(counts, assigned=flags, detected=flags, confidence=proportions)


def _as_anndata(
    called: CalledCounts,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    rule: GuideModel,
    batch_fits: pd.DataFrame | None,
) -> anndata.AnnData:
    import anndata
    import numpy as np
    import scipy.sparse as sp

    counts = sp.csr_matrix((called.counts, called.guides, called.ptr), shape=called.shape)
    kept = np.concatenate([[0], np.cumsum(called.assigned)])[called.ptr]
    n_calls = int(kept[-1])
    assigned = sp.csr_matrix(
        (np.ones(n_calls, dtype=np.uint8), called.guides[called.assigned], kept),
        shape=called.shape,
    )
    uns: dict[str, Any] = {name: _provenance(rule) for name in ("crispyx_guides", "kaichi")}
    if batch_fits is not None:
        uns["crispyx_guide_batches"] = batch_fits
    return anndata.AnnData(
        X=counts,
        obs=obs,
        var=var,
        layers={"assigned": assigned},
        uns=uns,
    )


def _provenance(rule: GuideModel) -> dict[str, Any]:
    return {"model": rule.rule, "model_params": rule.parameters, "version": __version__}
