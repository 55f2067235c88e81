"""Genes come one after the other from any layout, cells in any number of groups."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from layouts import count_screen, in_memory, log_screen, membership_of, write_h5ad
from strategies import cases

from crispyx._io.genes import GeneStream, group_genes
from crispyx._io.source import open_source
from crispyx._kernels.layout import GroupedGenes
from crispyx.errors import InputError

FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.ascontiguousarray}


@given(
    cases(), st.sampled_from(sorted(FORMS)), st.integers(1, 6), st.integers(1, 30), st.booleans()
)
def test_groups_are_the_same_from_every_layout(
    case, layout: str, width: int, max_cells, in_place
) -> None:
    values, design = case
    n_genes = values.shape[1]
    membership = membership_of(design.groups, design.n_groups, design.pool)
    adata = in_memory(values, ["a"] * len(values), FORMS[layout])
    stream = GeneStream(
        open_source(adata), membership, max_cells=max_cells, n_threads=2, in_place=in_place
    )
    expected = design.block(values)
    starts = []
    for block in stream.grouped(width):
        starts.append(block.start)
        for g in range(block.n_genes):
            for k in range(design.n_groups):
                np.testing.assert_array_equal(
                    block.values[block.run_ptr[g, k] : block.run_ptr[g, k + 1]],
                    expected.values[slice(*expected.run_ptr[block.start + g, k : k + 2])],
                )
    assert starts == list(range(0, n_genes, width))
    stream.close()


@pytest.mark.parametrize("layout", sorted(FORMS))
def test_stream_can_start_at_any_gene(layout: str) -> None:
    values, labels = log_screen()
    membership = membership_of([[k % 2] for k in range(len(values))], 2)
    stream = GeneStream(open_source(in_memory(values, labels, FORMS[layout])), membership)
    whole = next(stream.blocks(13))
    for start in range(13):
        (block,) = stream.blocks(13, start)
        part = slice(whole.ptr[start], None)
        np.testing.assert_array_equal(block.values, whole.values[part])
        np.testing.assert_array_equal(block.minor, whole.minor[part])


def streamed(values: np.ndarray, layout: str, start: int = 0) -> GeneStream:
    """Return a stream whose genes have all been asked for, one by one, from ``start`` on."""
    adata = in_memory(values, ["a"] * len(values), FORMS[layout])
    stream = GeneStream(open_source(adata), membership_of([[0]] * len(values), 2), max_cells=2)
    stream.summarize()
    for _ in stream.grouped(1, start):
        pass
    return stream


@pytest.mark.parametrize("layout", sorted(FORMS))
def test_what_the_matrix_holds_is_told_for_every_layout(layout: str, small_reads) -> None:
    counts, _ = count_screen()
    assert streamed(counts, layout).summary.looks_like_counts
    # A fraction in the first gene ends the first look at a CSC input; what comes later is seen too.
    values = counts.copy()
    values[0, 0], values[50, 12] = 0.5, -3
    summary = streamed(values, layout).summary
    assert summary.complete
    assert summary.fractional == (0, 0, 0.5)
    assert summary.negative == (50, 12, -3)
    assert not summary.looks_like_counts


def test_resumed_stream_does_not_judge_by_the_genes_it_has_seen(small_reads) -> None:
    values, labels = count_screen()
    values[0, 0] = 0.5
    source = open_source(in_memory(values, labels, sp.csc_matrix))
    stream = GeneStream(source, membership_of([[0]] * 61, 1))
    for _ in stream.grouped(1, start=4):
        pass
    assert not stream.summary.complete
    stream.summarize()
    assert not stream.summary.looks_like_counts


@pytest.mark.parametrize("layout", sorted(FORMS))
@pytest.mark.parametrize("start", [0, 4])
def test_library_sizes_are_those_of_all_genes_wherever_a_run_is_resumed(
    layout, start, small_reads
) -> None:
    counts, _ = count_screen()
    stream = streamed(counts, layout, start)
    stream.summarize()
    np.testing.assert_array_equal(stream.summary.library_sizes, counts.sum(axis=1))


@pytest.mark.parametrize("layout", sorted(FORMS))
def test_counts_become_logs_by_the_library_size_of_their_cell(layout: str) -> None:
    counts, labels = count_screen()
    counts[7] = 0  # a cell without any count stays empty
    membership = membership_of([[0]] * len(counts), 1)
    stream = GeneStream(open_source(in_memory(counts, labels, FORMS[layout])), membership)
    stream.summarize()
    stream.take_log1p()
    (block,) = stream.blocks(13)
    found = sp.csc_matrix((block.values, block.minor, block.ptr), shape=counts.shape).toarray()
    sizes = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Two roundings of the scaled value, and those of two log1p.
    np.testing.assert_allclose(found, np.log1p(counts * 1e4 / sizes), rtol=1e-15)


@given(cases(), st.sampled_from(sorted(FORMS)), st.integers(1, 6), st.booleans())
def test_logs_sorted_by_group_are_the_logs_of_the_genes_to_the_bit(
    case, layout: str, width: int, in_place
) -> None:
    values, design = case
    counts = np.floor(np.abs(values)).astype(np.float32)
    adata = in_memory(counts, ["a"] * len(counts), FORMS[layout])
    membership = membership_of(design.groups, design.n_groups, design.pool)
    stream = GeneStream(
        open_source(adata), membership, max_values=20, n_threads=2, in_place=in_place
    )
    stream.summarize()
    stream.take_log1p()
    found = [(block.start, *runs_of(block)) for block in stream.grouped(width)]
    genes = stream.blocks(width)
    expected = [(block.start, *runs_of(group_genes(block, membership, 1))) for block in genes]
    assert found == expected
    assert sum(len(run) for _, *runs in found for run in runs) == 8 * sum(
        np.count_nonzero(counts[cell]) * len(groups) for cell, groups in enumerate(members(design))
    )
    stream.close()


def members(design) -> list[list[int]]:
    """Return the groups of every cell, the pool among them."""
    membership = membership_of(design.groups, design.n_groups, design.pool)
    return [list(part) for part in np.split(membership.groups, membership.ptr[1:-1])]


def runs_of(block: GroupedGenes) -> list[bytes]:
    """Return the values of every gene and group, which may have gaps between them."""
    return [
        block.values[runs[k] : runs[k + 1]].tobytes()
        for runs in block.run_ptr
        for k in range(block.n_groups)
    ]


@pytest.mark.parametrize("max_cells", [0, -3])
def test_chunk_without_cells_is_refused(max_cells: int) -> None:
    values, labels = log_screen()
    source = open_source(in_memory(values, labels, sp.csr_matrix))
    with pytest.raises(InputError, match=f"chunk size is {max_cells}; give a whole number >= 1"):
        GeneStream(source, membership_of([[0]] * 61, 1), max_cells=max_cells)


@pytest.mark.parametrize("layout", sorted(FORMS))
def test_no_thread_reads_on_when_the_stream_is_left(layout: str, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", *log_screen(), layout=layout)
    with open_source(path) as source:
        stream = GeneStream(source, membership_of([[0]] * 61, 1), max_cells=3)
        blocks = stream.grouped(1)
        next(blocks)
        blocks.close()
        assert [t.name for t in threading.enumerate() if t.name == "crispyx-reader"] == []
        stream.close()


@pytest.mark.parametrize("layout", sorted(FORMS))
def test_fault_in_a_late_block_is_raised_and_ends_the_reader(layout: str, tmp_path: Path) -> None:
    values, labels = log_screen()
    values[60, 12] = np.nan
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout)
    with open_source(path) as source, pytest.raises(InputError, match="holds nan at cell 'cell60'"):
        list(GeneStream(source, membership_of([[0]] * 61, 1), max_cells=3).grouped(1))
    assert [t.name for t in threading.enumerate() if t.name == "crispyx-reader"] == []
