"""Guide counts in, one call per cell out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crispyx._io.source import open_source
from crispyx._run.threads import resolve_threads
from crispyx._version import __version__
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
    read_tables,
    require_guide_features,
    require_unique_names,
)
from crispyx.guides.models import GuideModel, resolve_model
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
) -> anndata.AnnData:
    r"""Call the guide of every cell from guide UMI counts.

    With :math:`y_{ij}` the UMIs of guide j in cell i and :math:`s_i = \sum_j y_{ij}`, guide j is
    called in cell i when

    .. math::

        \text{umi:} \quad & y_{ij} \ge t \\
        \text{max:} \quad & y_{ij} > y_{ik} \text{ for every other guide } k
            \text{, and } y_{ij} \ge t \\
        \text{ratio:} \quad & y_{ij} = \max_k y_{ik} \text{ and } y_{ij} / s_i > t

    and in any case only when :math:`y_{ij} > 0`.

    Parameters
    ----------
    path : path, crispyx.AnnData or anndata.AnnData (backed or in memory)
        Cells x guides UMI counts; CSR, CSC or dense.
    model : {"umi", "max", "ratio"}
        ``umi`` may call several guides in a cell. ``max`` calls one, or none when guides share the
        largest count. ``ratio`` calls one, or several when guides share the largest count. The
        other documented models, the default included, are not part of this version.
    min_confidence : float in [0, 1], optional
        ``ratio`` only: another name of ``ratio``, since the confidence of its calls is the
        proportion. A call must be above it.
    quantile : float in (0, 1], optional
        Parameter of the model ``quantiles``; refused by the models of this version.
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
            or uint64): its UMIs. ``assignment_confidence`` (float32): its proportion for ``ratio``,
            else 1; NaN without a call. ``is_unassigned``, ``is_multi_infected`` (bool): no guide,
            several guides. ``n_guides_detected`` (uint8, uint16 when needed): guides that pass,
            with ``max`` the number that share the largest count. Then the input's columns.
        ``var``
            ``n_cells_assigned``; ``status``: ``"ok"``, or ``"no_counts"`` for a guide without a
            UMI. Then the input's columns.
        ``uns["crispyx_guides"]``, ``uns["kaichi"]``
            Both ``model``, ``model_params`` and ``version``.

    Raises
    ------
    InputError
        Model not available; a parameter out of range or not used by the model; a count that is
        negative, fractional, infinite or NaN; a barcode or guide name that stands twice; columns
        that are not guides; no cells or no guides.
    MissingFileError
        No such file.

    Warns
    -----
    CrispyxWarning
        Guides without a UMI in any cell; input columns that give way to those above.

    Notes
    -----
    Source: the rules of crispat (Braunger and Velten, Bioinformatics 40, 2024, btae535).
    Reference: ``reference.guide_rules``.
    """
    rule = resolve_model(
        model,
        min_confidence=min_confidence,
        quantile=quantile,
        umi_threshold=umi_threshold,
        ratio=ratio,
    )
    n_threads = resolve_threads(n_jobs)
    with open_source(path, layer) as source:
        barcodes, guides = source.obs.index, source.var.index
        require_unique_names(barcodes, guides, source.where)
        require_guide_features(source)
        called = call_counts(source, rule, settings.engine, n_threads)
        given_obs, given_var = read_tables(path, source)
        var = guide_table(called, guides)
        warn_without_counts(var, source.where)
    obs = cell_table(called, rule, barcodes, guides)
    return _as_anndata(
        called,
        with_input_columns(obs, given_obs, "obs", reserved=(BARCODE,)),
        with_input_columns(var, given_var, "var"),
        rule,
    )


def _as_anndata(
    called: CalledCounts, obs: pd.DataFrame, var: pd.DataFrame, rule: GuideModel
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
    return anndata.AnnData(
        X=counts,
        obs=obs,
        var=var,
        layers={"assigned": assigned},
        uns={name: _provenance(rule) for name in ("crispyx_guides", "kaichi")},
    )


def _provenance(rule: GuideModel) -> dict[str, Any]:
    return {"model": rule.rule, "model_params": rule.parameters, "version": __version__}
