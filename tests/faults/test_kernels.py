"""Matrices of any structure and any value: an error or numbers, never a read outside an array.

Worth most under ``make check-address`` and ``make check-bounds``.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import COLUMN, gene_block, in_memory

import crispyx as cx
from crispyx._io.genes import GeneStream, group_genes
from crispyx._io.source import open_source
from crispyx._kernels.layout import Membership
from crispyx._stats.moments import comparison_arms
from crispyx._stats.rank_sum import rank_sum_tests
from crispyx.errors import CrispyxError

SHAPE = (9, 5)
VALUES = st.sampled_from(
    [0, 1, 2.5, -1, 1e-320, 5e-324, 3e38, 1e308, 2.0**31, 2.0**53 + 2, np.nan, np.inf, -np.inf]
)
PLACES = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, -1, 2**31 - 1, -(2**31)])
TYPES = st.sampled_from(["f4", "f8", "i4", "i8", "u2", "u8", "?", "c8", ">f4"])
anything = settings(max_examples=15, suppress_health_check=list(HealthCheck))


@st.composite
def matrices(draw: st.DrawFn) -> Any:
    """A CSR or CSC matrix whose arrays no library has checked."""
    layout = draw(st.sampled_from([sp.csr_matrix, sp.csc_matrix]))
    n_major = SHAPE[0] if layout is sp.csr_matrix else SHAPE[1]
    lengths = draw(st.lists(st.integers(0, 4), min_size=n_major, max_size=n_major))
    pointers = np.concatenate([[0], np.cumsum(lengths)])
    n = int(pointers[-1])
    values = draw(st.lists(VALUES, min_size=n, max_size=n))
    places = draw(st.lists(PLACES, min_size=n, max_size=n))
    matrix = layout(SHAPE)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        matrix.data = np.array(values, dtype="f8").astype(draw(TYPES))
    matrix.indices = np.array(places, dtype=draw(st.sampled_from(["i4", "i8"])))
    if draw(st.booleans()):
        pointers[draw(st.integers(0, n_major))] = draw(st.sampled_from([-1, 0, n, n + 1, 2**40]))
    matrix.indptr = pointers
    return matrix


def screen_of(matrix: Any) -> Any:
    labels = ["control", "A", "control", "B", "A", "control", "B", "A", None]
    adata = in_memory(np.zeros(SHAPE), labels, sp.csr_matrix)
    adata._X = matrix
    return adata


@anything
@given(matrix=matrices(), in_place=st.booleans())
def test_matrix_of_any_structure_is_refused_or_read_within_its_bounds(
    matrix: Any, in_place: bool, tally: Counter[str]
) -> None:
    tally["matrices of any structure"] += 1
    membership = Membership.from_labels(np.array([0, 1, 0, 2, 1, 0, 2, 1, -1]), 3)
    try:
        with open_source(screen_of(matrix)) as source:
            stream = GeneStream(source, membership, in_place=in_place, n_threads=2)
            blocks = list(stream.grouped(2))
    except CrispyxError:
        return
    assert [(block.start, block.stop) for block in blocks] == [(0, 2), (2, 4), (4, 5)]


@anything
@given(matrix=matrices())
def test_public_test_of_any_matrix_ends_in_an_error_or_in_p_values(
    matrix: Any, tmp_path_factory: Any, tally: Counter[str]
) -> None:
    tally["matrices of any structure"] += 1
    output = tmp_path_factory.mktemp("any") / "out.h5ad"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = cx.wilcoxon_test(
                screen_of(matrix), perturbation_column=COLUMN, output_path=output
            )
        except CrispyxError:
            assert not output.exists()
            return
    p = result.pvalues
    assert (np.isnan(p) | ((p >= 0) & (p <= 1))).all()


@anything
@given(values=st.lists(VALUES, min_size=45, max_size=45), kind=st.sampled_from(["f4", "f8"]))
def test_kernels_stay_within_their_arrays_whatever_the_values(
    values: list[float], kind: str, tally: Counter[str]
) -> None:
    """A mapped file can change after it was checked: its values must do no harm."""
    tally["matrices of any values"] += 1
    with np.errstate(all="ignore"):
        dense = np.array(values, dtype="f8").reshape(SHAPE).astype(kind)
    membership = Membership.from_labels(np.array([0, 1, 0, 2, 1, 0, 2, 1, 0]), 3)
    block = group_genes(gene_block(dense), membership, 2)
    rank_sum_tests(block, True, "compiled", 2)
    comparison_arms(block, "compiled", 2, with_variance=True)
