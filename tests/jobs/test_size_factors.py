"""Size factors are streamed from any layout to the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from layouts import in_memory, write_h5ad

from crispyx._io.source import open_source
from crispyx._jobs.comparison_size_factors import stream_comparison_size_factors
from crispyx._jobs.size_factors import stream_size_factors
from crispyx._kernels.layout import Membership
from crispyx._stats.size_factors import METHODS
from crispyx.errors import InputError, MemoryBudgetError
from reference.nb_glm import SIZE_FACTORS
from reference.size_factors import scaled

RNG = np.random.default_rng(3)
COUNTS = RNG.poisson(np.exp(RNG.normal(0.2, 1.2, 60)), (45, 60)).astype(float)
COUNTS[:, :4] += 1
USED = np.arange(45) % 5 != 2
FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.ascontiguousarray}


@pytest.mark.parametrize("method", METHODS)
def test_every_layout_gives_the_defined_numbers(method: str, tmp_path: Path) -> None:
    defined = scaled(SIZE_FACTORS[method](COUNTS[USED]))
    found = []
    for form in FORMS.values():
        with open_source(in_memory(COUNTS, ["a"] * 45, form)) as source:
            found.append(stream_size_factors(source, USED, method, scale=True, n_threads=2))
    path = write_h5ad(tmp_path / "screen.h5ad", COUNTS, ["a"] * 45, layout="csc")
    with open_source(path) as source:
        found.append(stream_size_factors(source, USED, method, scale=True, scratch_dir=tmp_path))
    np.testing.assert_allclose(found[0][USED], defined, rtol=1e-12)
    assert np.isnan(found[0][~USED]).all()
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_control_genes_set_the_depth() -> None:
    genes = np.arange(60) % 2 == 0
    with open_source(in_memory(COUNTS, ["a"] * 45, sp.csr_matrix)) as source:
        everyone = np.ones(45, dtype=bool)
        s = stream_size_factors(source, everyone, "sparse", scale=False, control_genes=genes)
    np.testing.assert_allclose(s, SIZE_FACTORS["sparse"](COUNTS[:, genes]), rtol=1e-12)


def test_a_cell_without_counts_has_none_and_changes_no_other() -> None:
    counts = COUNTS.copy()
    counts[11] = 0
    others = np.arange(45) != 11
    with open_source(in_memory(counts, ["a"] * 45, sp.csr_matrix)) as source:
        s = stream_size_factors(source, np.ones(45, dtype=bool), "sparse", scale=True)
        without = stream_size_factors(source, others, "sparse", scale=True)
    np.testing.assert_array_equal(s, without)
    assert np.isnan(s[11])


def test_an_unknown_method_is_refused() -> None:
    source = open_source(in_memory(COUNTS, ["a"] * 45, sp.csr_matrix))
    with pytest.raises(InputError, match="'geometric'; choose one of"):
        stream_size_factors(source, np.ones(45, dtype=bool), "geometric", scale=True)


def test_size_factors_of_each_comparison_keep_to_the_budget() -> None:
    source = open_source(in_memory(COUNTS, ["a"] * 45, sp.csr_matrix))
    membership = Membership.from_labels(np.arange(45) % 3, 3)
    with pytest.raises(MemoryBudgetError, match="size factors of each of 2 comparisons needs"):
        stream_comparison_size_factors(
            source, membership, "sparse", ("A", "B"), scale=True, memory_limit_gb=0.001
        )
