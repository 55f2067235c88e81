"""The parameters of a simulated screen, and what they are drawn into once per screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crispyx.datasets.arguments import Checked, bounded, counted, one_of
from crispyx.datasets.fitted import CONTROL_GUIDE_FRACTION
from crispyx.datasets.registry import NON_TARGETING
from crispyx.datasets.streams import Stream, generator
from crispyx.errors import InputError

if TYPE_CHECKING:
    import scipy.sparse as sp

# Below this the negative binomial is a Poisson to the last digit, and 1 / dispersion still exact.
LEAST_DISPERSION = 1e-8
# Counts must stay far below what an int32 holds.
LARGEST_MEAN = 1e6


@dataclass(frozen=True)
class ScreenDesign(Checked):
    """Sizes of a screen."""

    n_cells: int = counted(least=1, most=1_000_000_000)
    n_genes: int = counted(least=1, most=100_000)
    n_perturbations: int = counted(least=1, most=100_000)
    guides_per_perturbation: int = counted(least=1, most=100)
    n_control_guides: int | None = counted(least=1, most=1_000_000, optional=True)
    n_batches: int = counted(least=1, most=100_000)
    seed: int = counted(least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_perturbations > self.n_genes:
            raise InputError(
                f"n_perturbations is {self.n_perturbations:,} but there are {self.n_genes:,} genes "
                "to target; give n_genes >= n_perturbations"
            )
        if self.n_batches > self.n_cells:
            raise InputError(
                f"n_batches is {self.n_batches:,} but there are {self.n_cells:,} cells; give "
                "n_batches <= n_cells"
            )

    @property
    def n_targeting(self) -> int:
        """Number of guides against a target."""
        return self.n_perturbations * self.guides_per_perturbation

    @property
    def n_guides(self) -> int:
        """Number of guides, the control guides included."""
        if self.n_control_guides is not None:
            return self.n_targeting + self.n_control_guides
        return max(self.n_targeting + 1, round(self.n_targeting / (1 - CONTROL_GUIDE_FRACTION)))


@dataclass(frozen=True)
class ExpressionModel(Checked):
    """Distribution of gene means, dispersions, library sizes and batch effects."""

    library_size: float | None = bounded(above=0, most=1e9, optional=True)
    library_log_sd: float = bounded(least=0, most=3)
    gene_log_mean: float = bounded(least=-20, most=10)
    gene_log_sd: float = bounded(least=0, most=5)
    dispersion_floor: float = bounded(least=0, most=100)
    dispersion_slope: float = bounded(least=0, most=100)
    dispersion_log_sd: float = bounded(least=0, most=3)
    batch_log_sd: float = bounded(least=0, most=3)


@dataclass(frozen=True)
class EffectModel(Checked):
    """What a perturbation does to its target and to other genes, on the log2 scale."""

    knockdown_log2fc: float = bounded(least=-20, most=10)
    knockdown_log2fc_sd: float = bounded(least=0, most=5)
    guide_efficacy_cv: float = bounded(least=0, most=2)
    responding_fraction: float = bounded(least=0, most=1)
    response_log2fc_sd: float = bounded(least=0, most=5)


@dataclass(frozen=True)
class GuideModel(Checked):
    """How many guides a cell has, and the UMIs they and the ambient pool leave."""

    moi: float = bounded(above=0, most=100)
    fraction_without_guide: float = bounded(least=0, most=1)
    guide_abundance_log_sd: float = bounded(least=0, most=3)
    signal_umi: float = bounded(least=0, most=1e6)
    signal_size: float = bounded(least=0.01, most=1e8)
    signal_depth_exponent: float = bounded(least=0, most=2)
    ambient_umi: float = bounded(least=0, most=1e4)
    ambient_depth_exponent: float = bounded(least=0, most=2)


@dataclass(frozen=True)
class ScreenModel:
    """All parameters of a screen."""

    design: ScreenDesign
    expression: ExpressionModel
    effects: EffectModel
    guides: GuideModel


@dataclass(frozen=True)
class OutputFormat(Checked):
    """How the files are written."""

    with_labels: bool = one_of(True, False)
    dtype: str = one_of("int32", "float32")
    compression: str | None = one_of(None, "gzip", "lzf")
    layout: str = one_of("csr", "csc")
    overwrite: bool = one_of(True, False)


@dataclass(frozen=True)
class GeneTable:
    """Names (n_genes,), counts per cell at size factor 1 and dispersion (n_genes,).

    ``batch_factor`` (n_batches, n_genes) multiplies the mean.
    """

    names: np.ndarray
    mean: np.ndarray
    dispersion: np.ndarray
    batch_factor: np.ndarray


@dataclass(frozen=True)
class GuideTable:
    """Names, share in the pool, perturbation (-1: control) and efficacy, all (n_guides,)."""

    names: np.ndarray
    share: np.ndarray
    perturbation: np.ndarray
    efficacy: np.ndarray


@dataclass(frozen=True)
class ScreenTables:
    """Everything about a screen that is not a cell.

    ``log2_effects`` is CSR (n_perturbations, n_genes); ``target_gene`` (n_perturbations,) indexes
    the genes, whose names the perturbations bear.
    """

    genes: GeneTable
    guides: GuideTable
    target_gene: np.ndarray
    log2_effects: sp.csr_matrix

    @property
    def perturbations(self) -> np.ndarray:
        """Names of the perturbations."""
        return self.genes.names[self.target_gene]

    @property
    def guide_targets(self) -> np.ndarray:
        """Perturbation, or control label, of every guide."""
        labels = np.append(self.perturbations, NON_TARGETING)
        return labels[self.guides.perturbation]


def draw_tables(model: ScreenModel) -> ScreenTables:
    """Draw genes, effects and guides of a screen."""
    design = model.design
    genes = _draw_genes(design, model.expression)
    target_gene = _choose_targets(design, genes.mean)
    return ScreenTables(
        genes=genes,
        guides=_draw_guides(model, genes.names[target_gene]),
        target_gene=target_gene,
        log2_effects=_draw_effects(design, model.effects, target_gene),
    )


def _draw_genes(design: ScreenDesign, model: ExpressionModel) -> GeneTable:
    rng = generator(design.seed, Stream.GENES)
    n_genes = design.n_genes
    mean = np.exp(rng.normal(model.gene_log_mean, model.gene_log_sd, n_genes))
    if model.library_size is not None:
        mean *= model.library_size / mean.sum()
    if mean.max() > LARGEST_MEAN:
        raise InputError(
            f"the largest mean count of a simulated gene is {mean.max():.3g}, at most "
            f"{LARGEST_MEAN:g} is possible; lower gene_log_mean, gene_log_sd or library_size"
        )
    trend = model.dispersion_floor + model.dispersion_slope / mean
    dispersion = trend * np.exp(rng.normal(0.0, model.dispersion_log_sd, n_genes))
    factor = np.exp(rng.normal(0.0, model.batch_log_sd, (design.n_batches, n_genes)))
    return GeneTable(
        names=_numbered("GENE", n_genes),
        mean=mean,
        dispersion=np.maximum(dispersion, LEAST_DISPERSION),
        batch_factor=factor,
    )


def _choose_targets(design: ScreenDesign, mean: np.ndarray) -> np.ndarray:
    """Choose targets among the better expressed genes, as screens do."""
    rng = generator(design.seed, Stream.TARGETS)
    n_candidates = max(design.n_perturbations, design.n_genes // 4)
    candidates = np.argsort(-mean, kind="stable")[:n_candidates]
    return np.sort(rng.choice(candidates, design.n_perturbations, replace=False))


def _draw_effects(
    design: ScreenDesign, model: EffectModel, target_gene: np.ndarray
) -> sp.csr_matrix:
    import scipy.sparse as sp

    rng = generator(design.seed, Stream.EFFECTS)
    own = np.sign(model.knockdown_log2fc) * gamma_with_moments(
        rng, abs(model.knockdown_log2fc), model.knockdown_log2fc_sd, design.n_perturbations
    )
    n_responding = rng.binomial(
        design.n_genes - 1, model.responding_fraction, design.n_perturbations
    )
    indices, values = [], []
    for target, effect, n in zip(target_gene, own, n_responding, strict=True):
        others = rng.choice(design.n_genes - 1, n, replace=False)
        others += others >= target
        responses = rng.normal(0.0, model.response_log2fc_sd, n)
        order = np.argsort(np.append(others, target))
        indices.append(np.append(others, target)[order])
        values.append(np.append(responses, effect)[order])
    indptr = np.concatenate([[0], np.cumsum(n_responding + 1)])
    shape = (design.n_perturbations, design.n_genes)
    return sp.csr_matrix((np.concatenate(values), np.concatenate(indices), indptr), shape=shape)


def _draw_guides(model: ScreenModel, perturbations: np.ndarray) -> GuideTable:
    design = model.design
    rng = generator(design.seed, Stream.GUIDES)
    per_target = design.guides_per_perturbation
    n_targeting, n_guides = design.n_targeting, design.n_guides
    share = np.exp(rng.normal(0.0, model.guides.guide_abundance_log_sd, n_guides))
    efficacy = np.zeros(n_guides)
    efficacy[:n_targeting] = gamma_with_moments(
        rng, 1.0, model.effects.guide_efficacy_cv, n_targeting
    )
    perturbation = np.full(n_guides, -1)
    perturbation[:n_targeting] = np.repeat(np.arange(design.n_perturbations), per_target)
    names = [f"{name}_g{k}" for name in perturbations for k in range(1, per_target + 1)]
    names += [f"{NON_TARGETING}_g{k}" for k in range(1, n_guides - n_targeting + 1)]
    return GuideTable(np.array(names, dtype=object), share / share.sum(), perturbation, efficacy)


def gamma_with_moments(rng: np.random.Generator, mean: float, sd: float, size: int) -> np.ndarray:
    """Draw from the Gamma distribution with these moments; constant if sd is 0."""
    if mean == 0 or sd == 0:
        return np.full(size, mean)
    return rng.gamma((mean / sd) ** 2, sd**2 / mean, size)


def _numbered(prefix: str, n: int) -> np.ndarray:
    width = len(str(n))
    return np.array([f"{prefix}{i:0{width}d}" for i in range(1, n + 1)], dtype=object)
