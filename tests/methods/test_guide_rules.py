"""The compiled guide rules give the reference's calls, whatever the matrix is stored as."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crispyx._io.source import open_source
from crispyx._kernels.layout import CompressedBlock
from crispyx._stats import guide_rules
from crispyx._stats.guide_rules import assigned_flags
from crispyx.guides.calls import top_calls
from crispyx.guides.counts import CalledCounts, call_counts
from crispyx.guides.models import GuideModel
from reference.guide_rules import assign_max, assign_ratio, assign_umi

DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
LAYOUTS = ["csr", "csc", "dense"]

shapes = st.tuples(st.integers(1, 12), st.integers(1, 6))
# Small counts make ties; 120 is the largest that every dtype above can hold.
guide_counts = arrays(np.int64, shapes, elements=st.sampled_from([0, 0, 0, 1, 2, 3, 5, 7, 120]))
models = st.one_of(
    st.builds(GuideModel, st.just("umi"), st.integers(1, 8)),
    st.builds(GuideModel, st.just("max"), st.integers(0, 8)),
    st.builds(GuideModel, st.just("ratio"), st.sampled_from([0, 0.2, 0.3, 1 / 3, 0.5, 0.7, 1])),
)


def stored(counts: np.ndarray, layout: str, dtype: str, zeros: bool = False) -> ad.AnnData:
    """Return the counts in a layout; ``zeros`` stores the zeros of a sparse one, too."""
    values = counts.astype(dtype)
    if layout == "dense":
        return ad.AnnData(X=values)
    matrix = getattr(sp, f"{layout}_matrix")(values)
    if zeros:
        full = getattr(sp, f"{layout}_matrix")(np.ones(counts.shape))
        order = "C" if layout == "csr" else "F"
        parts = (values.ravel(order=order), full.indices, full.indptr)
        matrix = getattr(sp, f"{layout}_matrix")(parts, shape=counts.shape)
    return ad.AnnData(X=matrix)


def called(
    adata: ad.AnnData,
    model: GuideModel,
    engine: str = "compiled",
    n_threads: int = 1,
    max_rows: int = 1000,
) -> CalledCounts:
    with open_source(adata) as source:
        return call_counts(source, model, engine, n_threads, max_rows=max_rows)


def dense(found: CalledCounts, values: np.ndarray) -> np.ndarray:
    table = np.zeros(found.shape, dtype=values.dtype)
    table[found.cells, found.guides] = values
    return table


def by_definition(counts: np.ndarray, model: GuideModel) -> np.ndarray:
    rule = {"umi": assign_umi, "max": assign_max, "ratio": assign_ratio}[model.rule]
    return rule(counts, model.threshold)


@given(
    counts=guide_counts,
    model=models,
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from(DTYPES),
    zeros=st.booleans(),
    n_threads=st.integers(1, 3),
    max_rows=st.integers(1, 12),
)
@settings(deadline=None, max_examples=400)
def test_calls_are_the_definition_in_every_storage(
    counts, model, layout, dtype, zeros, n_threads, max_rows
) -> None:
    adata = stored(counts, layout, dtype, zeros)
    found = called(adata, model, "compiled", n_threads, max_rows)
    assert np.array_equal(dense(found, found.assigned), by_definition(counts, model))
    assert np.array_equal(dense(found, found.counts), counts)
    assert (found.counts > 0).all()


@given(
    counts=guide_counts,
    model=models,
    layout=st.sampled_from(LAYOUTS),
    max_rows=st.integers(1, 12),
)
@settings(deadline=None)
def test_reference_engine_gives_the_same_calls(counts, model, layout, max_rows) -> None:
    adata = stored(counts, layout, "i4", zeros=True)
    compiled = called(adata, model)
    reference = called(adata, model, "reference", max_rows=max_rows)
    for name in ("ptr", "guides", "counts", "assigned", "detected"):
        assert np.array_equal(getattr(compiled, name), getattr(reference, name)), name


@given(counts=guide_counts, floor=st.integers(0, 8))
@settings(deadline=None)
def test_max_detects_the_guides_that_share_the_largest_count(counts, floor) -> None:
    found = called(stored(counts, "csr", "i4"), GuideModel("max", floor))
    largest = counts.max(axis=1, keepdims=True)
    expected = (counts == largest) & (counts > 0) & (counts >= floor)
    assert np.array_equal(dense(found, found.detected), expected)


@given(counts=guide_counts, model=models)
@settings(deadline=None)
def test_top_call_is_the_first_call_with_the_most_umis(counts, model) -> None:
    found = called(stored(counts, "csr", "i4"), model)
    assigned = by_definition(counts, model)
    for cell, position in enumerate(top_calls(found)):
        calls = np.flatnonzero(assigned[cell])
        if not len(calls):
            assert position == -1
        else:
            best = calls[np.argmax(counts[cell, calls])]
            assert found.cells[position] == cell
            assert found.guides[position] == best


@pytest.mark.parametrize("rule", ["umi", "max", "ratio"])
def test_many_cells_on_several_threads_give_the_definition(rule: str) -> None:
    counts = np.random.default_rng(5).poisson(1.2, (20_000, 13))
    model = GuideModel(rule, {"umi": 3, "max": 2, "ratio": 0.3}[rule])
    for n_threads in (1, 2, 4):
        found = called(stored(counts, "csr", "u2"), model, n_threads=n_threads, max_rows=7000)
        assert np.array_equal(dense(found, found.assigned), by_definition(counts, model))


@pytest.mark.parametrize("rule", ["umi", "max", "ratio"])
def test_reference_does_not_depend_on_its_steps(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(6).poisson(1.0, (57, 4))
    model = GuideModel(rule, {"umi": 2, "max": 0, "ratio": 0.3}[rule])
    monkeypatch.setattr(guide_rules, "DENSE_VALUES", 20)
    found = called(stored(counts, "csr", "i4"), model, "reference")
    assert np.array_equal(dense(found, found.assigned), by_definition(counts, model))


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("rule", ["umi", "max", "ratio"])
def test_cells_without_stored_counts_have_no_flag(rule: str, engine: str) -> None:
    nothing = np.empty(0, dtype=np.float32)
    ptr = np.zeros(4, dtype=np.int64)
    block = CompressedBlock(0, 3, nothing, np.empty(0, dtype=np.int32), ptr)
    flags = assigned_flags(block, 5, rule, 1, engine)
    assert flags.shape == (0,)
    assert flags.dtype == np.uint8


def test_input_in_memory_is_not_changed() -> None:
    counts = np.array([[0, 3, 0], [5, 0, 5], [0, 0, 0]])
    for layout in LAYOUTS:
        adata = stored(counts, layout, "f4", zeros=True)
        before = adata.X.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            called(adata, GuideModel("umi", 5))
        after, before = (x if layout == "dense" else x.data for x in (adata.X, before))
        assert np.array_equal(after, before)
