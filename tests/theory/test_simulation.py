"""The simulator draws from the distributions it documents.

Seeds are fixed, so a test gives the same answer on every run. Bounds of z = 4.5 and p = 1e-5 are
those a correct sampler exceeds with a probability below 1e-5 for one comparison: wide enough for
the few hundred comparisons here, narrow against any wrong mean, dispersion or number of zeros.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from crispyx.datasets.cell_blocks import (
    STEPS_PER_OCTAVE,
    Cells,
    draw_cells,
    expression_block,
    guide_block,
    log_fold_of_cells,
)
from crispyx.datasets.negative_binomial import COUNT_BITS, assemble, cluster_rate, pack
from crispyx.datasets.screen_model import (
    EffectModel,
    ExpressionModel,
    GeneTable,
    GuideModel,
    ScreenDesign,
    ScreenModel,
    draw_tables,
)
from crispyx.datasets.streams import Stream, generator
from crispyx.errors import InputError

MAX_Z = 4.5
MIN_P = 1e-5

# (mean, dispersion): rare, frequent and heavy-tailed genes, and the Poisson limit.
SPARSE = [(0.02, 0.5), (0.3, 2.0), (0.05, 50.0), (0.5, 1e-8), (5.0, 4.0)]
FREQUENT = [(3.0, 0.25), (40.0, 0.1), (8.0, 1e-8)]


def make_genes(mean: np.ndarray, dispersion: np.ndarray, batch_factor=None) -> GeneTable:
    names = np.array([f"G{i}" for i in range(len(mean))], dtype=object)
    factor = np.ones((1, len(mean))) if batch_factor is None else batch_factor
    return GeneTable(names, np.asarray(mean, float), np.asarray(dispersion, float), factor)


def make_cells(step: np.ndarray, batch: np.ndarray | None = None) -> Cells:
    batch = np.zeros(len(step), dtype=np.int32) if batch is None else batch
    return Cells(batch, step, sp.csr_matrix((len(step), 1), dtype=np.int8))


def dense(block, n_columns: int) -> np.ndarray:
    indptr = np.concatenate([[0], np.cumsum(block.entries_per_cell)])
    shape = (len(block.entries_per_cell), n_columns)
    return sp.csr_matrix((block.data, block.indices, indptr), shape=shape).toarray()


def draw(genes: GeneTable, cells: Cells, log_fold=None, seed: int = 0) -> np.ndarray:
    shape = (len(cells.step), len(genes.mean))
    log_fold = sp.csr_matrix(shape) if log_fold is None else log_fold
    return dense(expression_block(np.random.default_rng(seed), genes, cells, log_fold), shape[1])


def nb(mean: float, dispersion: float):
    size = 1.0 / dispersion
    return stats.nbinom(size, size / (size + mean))


def chi_square_p(counts: np.ndarray, distribution) -> float:
    """P-value of counts against a distribution, bins with fewer than ten expected joined."""
    n = counts.size
    top = max(1, int(distribution.isf(10 / n)))
    edges = np.unique(distribution.ppf(np.linspace(0, 1, 60)[1:-1]).clip(0, top - 1))
    edges = edges if top > 60 else np.arange(top)
    cdf = np.concatenate([[0.0], distribution.cdf(edges), [1.0]])
    expected = n * np.diff(cdf)
    observed = np.bincount(np.searchsorted(edges, counts.ravel()), minlength=len(expected))
    return stats.chisquare(observed, expected).pvalue


def test_both_ways_of_drawing_are_covered() -> None:
    assert all(cluster_rate(np.float64(m), np.float64(a)) <= 1.0 for m, a in SPARSE)
    assert all(cluster_rate(np.float64(m), np.float64(a)) > 1.0 for m, a in FREQUENT)


@pytest.mark.parametrize(("mean", "dispersion"), SPARSE + FREQUENT)
def test_counts_follow_the_negative_binomial_pmf(mean: float, dispersion: float) -> None:
    genes = make_genes(np.full(60, mean), np.full(60, dispersion))
    counts = draw(genes, make_cells(np.zeros(4096, dtype=np.int32)))
    assert chi_square_p(counts, nb(mean, dispersion)) > MIN_P


@pytest.mark.parametrize(("mean", "dispersion"), SPARSE + FREQUENT)
def test_mean_and_zeros_follow_library_size_and_batch(mean: float, dispersion: float) -> None:
    step = np.repeat(np.array([-24, -7, 0, 5, 16], dtype=np.int32), 600)
    batch = np.tile(np.array([0, 1], dtype=np.int32), 1500)
    n_genes = 40
    factor = np.stack([np.full(n_genes, 1.0), np.full(n_genes, 1.7)])
    genes = make_genes(np.full(n_genes, mean), np.full(n_genes, dispersion), factor)
    counts = draw(genes, make_cells(step, batch))
    for s in np.unique(step):
        for b in (0, 1):
            part = counts[(step == s) & (batch == b)]
            expected = nb(mean * 2.0 ** (s / STEPS_PER_OCTAVE) * (1.7 if b else 1.0), dispersion)
            z = (part.mean() - expected.mean()) / (expected.std() / np.sqrt(part.size))
            assert abs(z) < MAX_Z
            silent = expected.pmf(0)
            zeros = (part == 0).sum()
            assert stats.binomtest(int(zeros), part.size, silent).pvalue > MIN_P


@pytest.mark.parametrize(("mean", "dispersion"), [(0.3, 2.0), (3.0, 0.25)])
@pytest.mark.parametrize("fold", [0.1, 6.0])
def test_affected_pairs_follow_their_own_mean_and_no_other_pair_changes(
    mean: float, dispersion: float, fold: float
) -> None:
    n_cells, n_genes = 4000, 20
    affected = np.zeros((n_cells, n_genes), dtype=bool)
    affected[::2, :10] = True
    log_fold = sp.csr_matrix(np.where(affected, np.log(fold), 0.0))
    genes = make_genes(np.full(n_genes, mean), np.full(n_genes, dispersion))
    counts = draw(genes, make_cells(np.zeros(n_cells, dtype=np.int32)), log_fold)
    assert chi_square_p(counts[affected], nb(mean * fold, dispersion)) > MIN_P
    assert chi_square_p(counts[~affected], nb(mean, dispersion)) > MIN_P


def test_genes_of_a_cell_are_independent() -> None:
    # Clusters share Poisson draws over cells; totals of a cell would show any dependence left.
    n_cells, n_genes = 4096, 200
    genes = make_genes(np.full(n_genes, 0.2), np.full(n_genes, 1.0))
    totals = draw(genes, make_cells(np.zeros(n_cells, dtype=np.int32))).sum(axis=1)
    expected = n_genes * nb(0.2, 1.0).var()
    # Variance of a sample variance of a nearly normal total is 2 / (n - 1) times its square.
    z = (totals.var(ddof=1) / expected - 1) / np.sqrt(2 / (n_cells - 1))
    assert abs(z) < MAX_Z
    assert abs(np.corrcoef(np.arange(n_cells), totals)[0, 1]) < MAX_Z / np.sqrt(n_cells)


def make_model(**changes) -> ScreenModel:
    guides = {
        "moi": 0.8,
        "fraction_without_guide": 0.1,
        "guide_abundance_log_sd": 0.5,
        "signal_umi": 50.0,
        "signal_size": 2.0,
        "signal_depth_exponent": 0.3,
        "ambient_umi": 1.5,
        "ambient_depth_exponent": 0.2,
    }
    effects = {
        "knockdown_log2fc": -2.0,
        "knockdown_log2fc_sd": 0.5,
        "guide_efficacy_cv": 0.3,
        "responding_fraction": 0.05,
        "response_log2fc_sd": 0.5,
    }
    return ScreenModel(
        ScreenDesign(
            n_cells=changes.pop("n_cells", 20_000),
            n_genes=changes.pop("n_genes", 500),
            n_perturbations=changes.pop("n_perturbations", 40),
            guides_per_perturbation=3,
            n_control_guides=10,
            n_batches=3,
            seed=changes.pop("seed", 5),
        ),
        ExpressionModel(None, 0.5, -1.0, 1.2, 0.2, 0.1, 0.5, 0.1),
        EffectModel(**effects | {k: changes.pop(k) for k in list(changes) if k in effects}),
        GuideModel(**guides | changes),
    )


def test_library_sizes_are_log_normal_with_mean_one() -> None:
    model = make_model()
    cells = draw_cells(model, np.full(130, 1 / 130))
    size = cells.size_factor
    se = np.sqrt(np.expm1(0.5**2) / len(size))
    # Rounding to steps of 4.4 % moves the mean by less than 1e-4 (the square of a step over 24).
    assert abs(size.mean() - 1) < MAX_Z * se + 1e-4
    assert np.log(size).std() == pytest.approx(0.5, abs=MAX_Z * 0.5 / np.sqrt(2 * len(size)))


def test_cells_carry_a_zero_truncated_poisson_number_of_guides() -> None:
    # So many guides that no cell of this screen has the same one twice.
    n_guides = 100_000
    cells = draw_cells(make_model(), np.full(n_guides, 1 / n_guides))
    n = np.diff(cells.guides.indptr)
    truncated = stats.poisson(0.8).pmf(np.arange(1, 6)) / stats.poisson(0.8).sf(0)
    probability = np.concatenate([[0.1], 0.9 * truncated])
    probability = np.append(probability, 1 - probability.sum())
    observed = np.bincount(np.minimum(n, 6), minlength=7)
    assert stats.chisquare(observed, len(n) * probability).pvalue > MIN_P


def test_guides_are_chosen_in_proportion_to_their_share() -> None:
    share = np.arange(1, 21) / 210
    model = make_model(moi=1e-3)
    cells = draw_cells(model, share)
    observed = np.asarray(cells.guides.sum(axis=0)).ravel()
    assert stats.chisquare(observed, observed.sum() * share).pvalue > MIN_P


def test_guide_counts_are_ambient_poisson_plus_negative_binomial_signal() -> None:
    n_cells, share = 30_000, np.array([0.5, 0.3, 0.2])
    carries = np.zeros((n_cells, 3), dtype=np.int8)
    carries[:10_000, 0] = 1
    step = np.full(n_cells, 16, dtype=np.int32)
    cells = Cells(np.zeros(n_cells, dtype=np.int32), step, sp.csr_matrix(carries))
    model = make_model().guides
    counts = dense(guide_block(np.random.default_rng(1), model, cells, share), 3)
    ambient = 1.5 * 2.0**0.2 * share
    for guide in (1, 2):
        assert chi_square_p(counts[:, guide], stats.poisson(ambient[guide])) > MIN_P
    assert chi_square_p(counts[10_000:, 0], stats.poisson(ambient[0])) > MIN_P
    signal = counts[:10_000, 0]
    mean = 50.0 * 2.0**0.3
    variance = mean + mean**2 / 2.0 + ambient[0]
    assert abs(signal.mean() - mean - ambient[0]) < MAX_Z * np.sqrt(variance / 10_000)
    # The fourth moment of this skewed count is not worth a formula: its Gamma limit has excess
    # kurtosis 6 / size = 3, so a sample variance has a relative standard error sqrt((2 + 3) / n).
    assert abs(signal.var() / variance - 1) < MAX_Z * np.sqrt(5 / 10_000)


def test_effects_of_several_guides_add_on_the_log_scale() -> None:
    effects = sp.csr_matrix(np.array([[-1.0, 0.0, 0.5], [0.0, 0.0, 0.25]]))
    cells = Cells(
        np.zeros(3, dtype=np.int32),
        np.zeros(3, dtype=np.int32),
        sp.csr_matrix(np.array([[1, 1], [0, 1], [0, 0]], dtype=np.int8)),
    )
    expected = [[-1.0, 0.0, 0.75], [0.0, 0.0, 0.25], [0.0, 0.0, 0.0]]
    assert log_fold_of_cells(cells, effects).toarray().tolist() == expected


def test_planted_effects_have_the_stated_moments() -> None:
    tables = draw_tables(make_model(n_genes=4000, n_perturbations=1000))
    own = tables.log2_effects[np.arange(1000), tables.target_gene].A1
    assert (own < 0).all()
    assert abs(own.mean() + 2.0) < MAX_Z * 0.5 / np.sqrt(1000)
    # Gamma with shape 16: excess kurtosis 6 / 16.
    assert abs(own.var() / 0.25 - 1) < MAX_Z * np.sqrt((2 + 6 / 16) / 1000)
    n_others = tables.log2_effects.nnz - 1000
    expected = 1000 * 3999 * 0.05
    assert abs(n_others - expected) < MAX_Z * np.sqrt(expected * 0.95)
    efficacy = tables.guides.efficacy[tables.guides.perturbation >= 0]
    assert abs(efficacy.mean() - 1) < MAX_Z * 0.3 / np.sqrt(3000)
    assert (tables.guides.efficacy[tables.guides.perturbation < 0] == 0).all()


def test_every_gene_responds_when_the_fraction_is_one() -> None:
    effects = draw_tables(make_model(n_genes=50, responding_fraction=1.0)).log2_effects
    assert effects.has_canonical_format
    assert effects.nnz == 40 * 50


def test_a_guide_integrated_twice_counts_once() -> None:
    cells = draw_cells(make_model(moi=5.0), np.array([0.5, 0.5]))
    assert set(cells.guides.data) == {1}
    assert np.diff(cells.guides.indptr).max() == 2


def test_streams_of_all_parts_and_blocks_differ() -> None:
    first = [generator(1, stream, block).random() for stream in Stream for block in range(50)]
    assert len(set(first)) == len(Stream) * 50


def test_assemble_sorts_entries_and_adds_repeated_ones() -> None:
    keys = np.array([7, 2, 7, 0, 5])
    block = assemble([pack(keys[:3], np.array([4, 1, 6])), pack(keys[3:], np.array([2, 3]))], 4, 3)
    assert block.data.tolist() == [2, 1, 3, 10]
    assert block.indices.tolist() == [0, 2, 2, 1]
    assert block.entries_per_cell.tolist() == [2, 1, 1, 0]


def test_assemble_accepts_a_block_without_counts() -> None:
    block = assemble([np.empty(0, dtype=np.int64)], 2, 3)
    assert len(block.data) == len(block.indices) == 0
    assert block.entries_per_cell.tolist() == [0, 0]


def test_counts_beyond_the_packed_range_are_refused() -> None:
    with pytest.raises(InputError, match="lower the means"):
        pack(np.array([0]), np.array([1 << COUNT_BITS]))
