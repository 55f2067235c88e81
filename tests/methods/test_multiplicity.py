"""The engine gets the reference's estimate from a histogram."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispyx._stats.multiplicity import (
    estimate_multiplicity,
    expected_cells,
    share_infected_repeatedly,
)
from reference.multiplicity import probabilities

histograms = st.lists(st.integers(0, 5000), min_size=2, max_size=8).filter(lambda h: sum(h[1:]) > 0)


def assert_close(found: float, expected: float, rel: float) -> None:
    if math.isnan(expected):
        assert math.isnan(found)
    else:
        assert found == pytest.approx(expected, rel=rel)


@given(histograms, st.one_of(st.none(), st.sampled_from([0.01, 0.2, 0.5, 0.9, 0.999])))
def test_engine_finds_the_definition(cells: list[int], capture: float | None) -> None:
    histogram = np.array(cells)
    found, expected = (
        estimate_multiplicity(histogram, capture, e) for e in ("compiled", "reference")
    )
    # Two root finders, each to about 1e-14; close to a border the root itself loses digits.
    assert_close(found.moi, expected.moi, 1e-8)
    assert_close(found.capture, expected.capture, 1e-8)
    assert_close(found.standard_error, expected.standard_error, 1e-5)


@given(st.floats(0.01, 30), st.floats(0.01, 0.99))
def test_expected_cells_are_those_of_the_definition(moi: float, capture: float) -> None:
    found = expected_cells(1000, moi, capture, 12)
    # Closed form against sum: differences of exponentials at low multiplicity.
    np.testing.assert_allclose(found, 1000 * probabilities(moi, capture, 12), rtol=1e-10)


def test_share_of_repeated_infections_is_that_of_a_truncated_poisson() -> None:
    p = probabilities(1.7, 1.0, 60)
    assert share_infected_repeatedly(1.7) == pytest.approx(p[2:].sum(), rel=1e-13)
    assert share_infected_repeatedly(0.0) == 0
