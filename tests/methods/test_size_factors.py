"""The compiled size factors against reference.size_factors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from crispyx._kernels.layout import CompressedBlock
from crispyx._stats.size_factors import METHODS, cell_size_factors, gene_sums, size_factors
from crispyx.errors import InputError

RNG = np.random.default_rng(6)
COUNTS = RNG.poisson(np.exp(RNG.normal(0, 1.2, 80)), (50, 80))
COUNTS[:, :3] += 1
COUNTS[7] = 0


def block_of(counts: np.ndarray, start: int = 0) -> CompressedBlock:
    matrix = sparse.csr_matrix(counts.astype(np.float32))
    return CompressedBlock(
        start,
        start + len(counts),
        matrix.data,
        matrix.indices.astype(np.int32),
        matrix.indptr.astype(np.int64),
    )


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_compiled_size_factors_are_the_defined_ones(method: str, scale: bool) -> None:
    counts = np.delete(COUNTS, 7, axis=0) if method == "deseq2" else COUNTS
    ours, defined = (
        size_factors(block_of(counts), 80, method, scale=scale, engine=e)
        for e in ("compiled", "reference")
    )
    np.testing.assert_allclose(ours, defined, rtol=1e-12)
    assert np.isnan(ours).sum() == (0 if method == "deseq2" else 1)


@pytest.mark.parametrize("method", METHODS)
def test_size_factors_do_not_depend_on_blocks_or_threads(method: str) -> None:
    counts = np.delete(COUNTS, 7, axis=0)
    blocks = [block_of(counts[i : i + 11], i) for i in range(0, 49, 11)]
    means = gene_sums(blocks, 80).log_means(method)
    parts = [cell_size_factors(block, means, method, n_threads=3) for block in blocks]
    whole = size_factors(block_of(counts), 80, method, scale=False, engine="compiled")
    if method == "poscounts":
        whole = cell_size_factors(block_of(counts), means, method)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_control_genes_alone_set_the_scale() -> None:
    among = np.arange(80) < 20
    means = gene_sums([block_of(COUNTS)], 80).log_means("total", among)
    assert np.isnan(means[20:]).all()
    found = cell_size_factors(block_of(COUNTS), means, "total")
    used = np.isfinite(means)
    np.testing.assert_array_equal(np.nan_to_num(found), COUNTS[:, used].sum(axis=1))


def test_the_median_of_ratios_says_where_it_cannot_work() -> None:
    with pytest.raises(InputError, match=r"needs a gene that all 50 cells express.*'sparse'"):
        gene_sums([block_of(COUNTS)], 80).log_means("deseq2")


@pytest.mark.parametrize("error", [0.0, 0.04, -0.04, 0.2, -9.0, 9.0])
def test_a_guess_changes_no_bit(error: float) -> None:
    block = block_of(COUNTS)
    means = gene_sums([block], 80).log_means("sparse")
    plain = cell_size_factors(block, means, "sparse")
    guess = plain * np.exp(error)
    np.testing.assert_array_equal(cell_size_factors(block, means, "sparse", 2, guess), plain)
    np.testing.assert_array_equal(guess, plain * np.exp(error))
