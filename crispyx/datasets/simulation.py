"""A simulated screen, written to disk as a real one would come."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from crispyx.datasets import fitted
from crispyx.datasets.dataset import Dataset
from crispyx.datasets.registry import NON_TARGETING
from crispyx.datasets.screen_files import write_screen
from crispyx.datasets.screen_model import (
    EffectModel,
    ExpressionModel,
    GuideModel,
    OutputFormat,
    ScreenDesign,
    ScreenModel,
)

CITATION = (
    "Simulated with crispyx; parameters fitted to Schraivogel et al. (2020) "
    "https://doi.org/10.1038/s41592-020-0837-5, Papalexi et al. (2021) "
    "https://doi.org/10.1038/s41588-021-00778-2, Norman et al. (2019) "
    "https://doi.org/10.1126/science.aax4438 and 10x Genomics (2017) 1.3 million brain cells"
)


def simulate_screen(
    output_dir: str | os.PathLike[str],
    *,
    n_cells: int = 5000,
    n_genes: int = 1000,
    n_perturbations: int = 25,
    guides_per_perturbation: int = 3,
    n_control_guides: int | None = None,
    n_batches: int = 2,
    library_size: float | None = None,
    library_log_sd: float = fitted.LIBRARY_LOG_SD,
    gene_log_mean: float = fitted.GENE_LOG_MEAN,
    gene_log_sd: float = fitted.GENE_LOG_SD,
    dispersion_floor: float = fitted.DISPERSION_FLOOR,
    dispersion_slope: float = fitted.DISPERSION_SLOPE,
    dispersion_log_sd: float = fitted.DISPERSION_LOG_SD,
    batch_log_sd: float = fitted.BATCH_LOG_SD,
    knockdown_log2fc: float = fitted.KNOCKDOWN_LOG2FC,
    knockdown_log2fc_sd: float = fitted.KNOCKDOWN_LOG2FC_SD,
    guide_efficacy_cv: float = fitted.GUIDE_EFFICACY_CV,
    responding_fraction: float = fitted.RESPONDING_FRACTION,
    response_log2fc_sd: float = fitted.RESPONSE_LOG2FC_SD,
    moi: float = fitted.MOI,
    fraction_without_guide: float = fitted.FRACTION_WITHOUT_GUIDE,
    guide_abundance_log_sd: float = fitted.GUIDE_ABUNDANCE_LOG_SD,
    signal_umi: float = fitted.SIGNAL_UMI,
    signal_size: float = fitted.SIGNAL_SIZE,
    signal_depth_exponent: float = fitted.SIGNAL_DEPTH_EXPONENT,
    ambient_umi: float = fitted.AMBIENT_UMI,
    ambient_depth_exponent: float = fitted.AMBIENT_DEPTH_EXPONENT,
    with_labels: bool = False,
    dtype: Literal["int32", "float32"] = "int32",
    compression: Literal["gzip", "lzf"] | None = None,
    layout: Literal["csr", "csc"] = "csr",
    overwrite: bool = False,
    seed: int = 0,
) -> Dataset:
    r"""Simulate a screen with known effects and write ``expression``, ``guides`` and ``truth``.

    Counts of cell :math:`i` and gene :math:`g` are negative binomial,

    .. math::

        y_{ig} \sim \mathrm{NB}\left(\mu_{ig}, \alpha_g\right), \qquad
        \mu_{ig} = s_i\, m_g\, b_{g,\mathrm{batch}(i)}
        \prod_{j \in \mathrm{guides}(i)} 2^{\,e_j \beta_{\mathrm{target}(j),\,g}},

    with variance :math:`\mu + \alpha\mu^2`. The size factors :math:`s_i` (mean 1, rounded to steps
    of :math:`2^{1/16}`), gene means :math:`m_g` and batch factors :math:`b` are log-normal, the
    dispersions scatter log-normally around :math:`a_0 + a_1 / m_g`. :math:`\beta` holds the effect
    on the target itself and on responding genes, :math:`e_j` the efficacy of a guide. Guide counts
    are the sum of ambient UMIs, Poisson in proportion to a guide's share in the pool, and a
    negative binomial signal of each guide in the cell. Fitted defaults come from real screens; the
    table of ``docs/datasets.md`` says which.

    The counts depend on the arguments and ``seed`` only. Memory is bounded by one block of 4,096
    cells, whatever ``n_cells`` is, and time is proportional to the non-zeros.

    Parameters
    ----------
    output_dir : path
        Folder for ``expression.h5ad``, ``guides.h5ad`` and ``truth.h5ad``; created if absent.
    n_cells, n_genes : int
        Size of the screen.
    n_perturbations : int
        Number of targets, chosen among the better expressed genes and named after them.
    guides_per_perturbation : int
        Guides against each target.
    n_control_guides : int or None
        Non-targeting guides; None makes them 30/86 of all guides, as in Schraivogel et al.
    n_batches : int
        Batches of equal size, one after the other.
    library_size : float or None
        Expected UMIs of a cell with size factor 1; scales all gene means. None leaves them as
        fitted.
    library_log_sd : float
        Standard deviation of the natural logarithm of the size factors.
    gene_log_mean, gene_log_sd : float
        Mean and standard deviation of the natural logarithm of the counts per cell of a gene.
    dispersion_floor, dispersion_slope, dispersion_log_sd : float
        :math:`a_0`, :math:`a_1`, and the standard deviation of the logarithm around the trend.
    batch_log_sd : float
        Standard deviation of the natural logarithm of the batch factors of a gene.
    knockdown_log2fc, knockdown_log2fc_sd : float
        Mean and standard deviation, over perturbations, of the effect on the target itself; a
        positive mean makes activations. Gamma distributed, so that all have one sign.
    guide_efficacy_cv : float
        Coefficient of variation of :math:`e_j` (Gamma, mean 1) over guides.
    responding_fraction : float
        Share of the other genes that a perturbation changes.
    response_log2fc_sd : float
        Standard deviation of these changes (normal, mean 0).
    moi : float
        Multiplicity of infection: cells with a guide have a zero-truncated Poisson(moi) number of
        integrations. The same guide integrated twice counts once.
    fraction_without_guide : float
        Share of cells without any guide.
    guide_abundance_log_sd : float
        Standard deviation of the natural logarithm of a guide's share in the pool.
    signal_umi, signal_size : float
        Mean UMIs and NB size (1 / dispersion) of a guide that is in the cell.
    ambient_umi : float
        Mean UMIs per cell of ambient guides, all guides together.
    signal_depth_exponent, ambient_depth_exponent : float
        Both means are multiplied by the size factor to this power.
    with_labels : bool
        Write the true ``perturbation`` and ``guide`` of cells with exactly one guide into the obs
        of ``expression.h5ad``; both are missing for other cells. By default guides have to be
        called.
    dtype : {"int32", "float32"}
        Type of the stored counts.
    compression : {None, "gzip", "lzf"}
        HDF5 compression of the counts.
    layout : {"csr", "csc"}
        How ``expression.h5ad`` is stored. The counts are the same; CSC passes through a scratch
        file in ``output_dir``.
    overwrite : bool
        Replace files of an earlier simulation.
    seed : int
        Seed, 0 or above.

    Returns
    -------
    Dataset
        Paths, labels and guide targets. ``truth.h5ad`` holds the log2 effects (CSR, perturbations x
        genes), ``uns["guides"]`` (target, efficacy and share of each guide), ``uns["cells"]``
        (size factor, batch, number of guides, and the guide and perturbation of cells with one) and
        ``uns["cell_guides"]`` (CSR, cells x guides, 1 where the guide is in the cell).

    Raises
    ------
    ValueError
        An argument is out of range.
    FileExistsError
        An output exists and ``overwrite`` is False.

    Notes
    -----
    Source: compound Poisson form of the negative binomial, Quenouille (1949), Biometrics 5,
    162-164.
    """
    model = ScreenModel(
        design=ScreenDesign(
            n_cells=n_cells,
            n_genes=n_genes,
            n_perturbations=n_perturbations,
            guides_per_perturbation=guides_per_perturbation,
            n_control_guides=n_control_guides,
            n_batches=n_batches,
            seed=seed,
        ),
        expression=ExpressionModel(
            library_size=library_size,
            library_log_sd=library_log_sd,
            gene_log_mean=gene_log_mean,
            gene_log_sd=gene_log_sd,
            dispersion_floor=dispersion_floor,
            dispersion_slope=dispersion_slope,
            dispersion_log_sd=dispersion_log_sd,
            batch_log_sd=batch_log_sd,
        ),
        effects=EffectModel(
            knockdown_log2fc=knockdown_log2fc,
            knockdown_log2fc_sd=knockdown_log2fc_sd,
            guide_efficacy_cv=guide_efficacy_cv,
            responding_fraction=responding_fraction,
            response_log2fc_sd=response_log2fc_sd,
        ),
        guides=GuideModel(
            moi=moi,
            fraction_without_guide=fraction_without_guide,
            guide_abundance_log_sd=guide_abundance_log_sd,
            signal_umi=signal_umi,
            signal_size=signal_size,
            signal_depth_exponent=signal_depth_exponent,
            ambient_umi=ambient_umi,
            ambient_depth_exponent=ambient_depth_exponent,
        ),
    )
    output = OutputFormat(with_labels, dtype, compression, layout, overwrite)
    paths, tables = write_screen(Path(output_dir).expanduser(), model, output)
    return Dataset(
        name="simulated",
        expression=paths["expression"],
        guides=paths["guides"],
        perturbation_column="perturbation" if with_labels else None,
        control_label=NON_TARGETING,
        guide_to_target=dict(zip(tables.guides.names, tables.guide_targets, strict=True)),
        citation=CITATION,
        source="simulated",
        origin=(
            f"simulated: {n_cells:,} cells x {n_genes:,} genes, {n_perturbations:,} perturbations, "
            f"seed {seed}; parameters in uns['simulation'] of the truth file"
        ),
        truth=paths["truth"],
    )
