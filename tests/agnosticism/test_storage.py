"""A result depends on the values of a screen, never on how and where they are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import (
    COLUMN,
    FILES,
    NUMBER_TYPES,
    OBJECTS,
    assert_same_bits,
    count_screen,
    log_screen,
    tables_of,
    write_h5ad,
)

import crispyx as cx
from crispyx.de import t_test, wilcoxon_test
from crispyx.errors import CrispyxWarning

METHODS = [wilcoxon_test, t_test]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:in .* tests one arm"
)


def result_tables(method: Callable[..., Any], data: Any, output: Path, **more: Any) -> dict:
    """Return all arrays of the result file; no gene is filtered out."""
    options = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0} | more
    found = method(data, perturbation_column=COLUMN, output_path=output, force=True, **options)
    assert found.groups == ["KLF1", "GATA1", "MYC"]
    return tables_of(output)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[Any, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("expected")
    path = write_h5ad(folder / "screen.h5ad", *log_screen())
    with pytest.warns(CrispyxWarning, match="2 of 61 cells have no label"):
        return {method: result_tables(method, path, folder / "result.h5ad") for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FILES)
def test_encoding_of_the_file_changes_no_bit(method, name: str, expected, tmp_path) -> None:
    storage = FILES[name]
    path = write_h5ad(tmp_path / "screen.h5ad", *log_screen(), **storage)
    layer = storage.get("element", "X").removeprefix("layers/")
    more = {} if layer == "X" else {"layer": layer}
    found = result_tables(method, path, tmp_path / "result.h5ad", **more)
    assert_same_bits(found, expected[method])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OBJECTS)
def test_object_that_holds_the_screen_changes_no_bit(method, name, expected, tmp_path) -> None:
    data = OBJECTS[name](*log_screen(), tmp_path)
    assert_same_bits(result_tables(method, data, tmp_path / "result.h5ad"), expected[method])


@pytest.mark.parametrize("kind", ["text", "bytes", "categories", "anndata 0.7", "anndata 0.6"])
def test_encoding_of_the_labels_changes_no_bit(kind: str, tmp_path) -> None:
    values, labels = log_screen()
    labels = [label or "control" for label in labels]
    tables = [
        result_tables(
            wilcoxon_test,
            write_h5ad(tmp_path / "screen.h5ad", values, labels, label_kind=encoding),
            tmp_path / "result.h5ad",
        )
        for encoding in (kind, "categories")
    ]
    assert_same_bits(*tables)


@pytest.mark.filterwarnings("ignore:.* holds counts")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", NUMBER_TYPES)
def test_type_of_the_numbers_changes_no_bit(method, layout: str, dtype: str, tmp_path) -> None:
    values, labels = count_screen()
    tables = [
        result_tables(
            method,
            write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=how, dtype=kind),
            tmp_path / "result.h5ad",
        )
        for how, kind in ((layout, dtype), ("csr", "i4"))
    ]
    assert_same_bits(*tables)


@pytest.mark.filterwarnings("ignore:.* holds counts")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_booleans_are_zeros_and_ones(method, layout: str, tmp_path) -> None:
    values, labels = count_screen()
    tables = [
        result_tables(
            method,
            write_h5ad(
                tmp_path / "screen.h5ad", (values > 0) * 1.0, labels, layout=layout, dtype=d
            ),
            tmp_path / "result.h5ad",
        )
        for d in ("?", "f8")
    ]
    assert_same_bits(*tables)


@pytest.mark.filterwarnings("ignore:.* holds counts")
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", ["i4", "i8", "u4", "u8", "f8"])
def test_integers_beyond_float32_keep_their_ranks(layout: str, dtype: str, tmp_path) -> None:
    values, labels = count_screen()
    # Float32 would make 2^24 and 2^24 + 1 a tie, in the control and in a perturbation.
    values[1:3, 0], values[4, 0] = 2**24, 2**24 + 1
    largest = 2**31 - 1 if dtype == "i4" else 2**32 - 1 if dtype == "u4" else 2**53
    values[1, 1], values[4, 1] = largest - 1, largest
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout, dtype=dtype)
    found = result_tables(wilcoxon_test, path, tmp_path / "result.h5ad")
    values[values >= 2**24] = np.searchsorted(np.unique(values), values[values >= 2**24]) + 100
    path = write_h5ad(tmp_path / "ranks.h5ad", values, labels)
    expected = result_tables(wilcoxon_test, path, tmp_path / "result.h5ad")
    for name in ("X", "z_score", "pvalue", "u_statistic"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_input_in_memory_is_left_as_it_was(tmp_path) -> None:
    for name in ("memory csr", "memory csc", "memory dense"):
        data = OBJECTS[name](*log_screen(), tmp_path)
        parts = [data.X] if name == "memory dense" else [data.X.data, data.X.indices, data.X.indptr]
        before = [part.copy() for part in parts]
        for part in parts:
            part.flags.writeable = False
        for method in METHODS:
            result_tables(method, data, tmp_path / "result.h5ad")
        for part, old in zip(parts, before, strict=True):
            np.testing.assert_array_equal(part, old)


@pytest.mark.filterwarnings("ignore:.* holds counts")
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_counts_give_the_t_test_of_the_same_file_normalized_in_float64(layout, tmp_path) -> None:
    values, labels = count_screen()
    sizes = values.sum(axis=1, keepdims=True)
    normalized = np.log1p(values * 1e4 / sizes)
    from_counts, from_logs = (
        result_tables(
            t_test,
            write_h5ad(tmp_path / "screen.h5ad", x, labels, layout=layout, dtype="f8"),
            tmp_path / "result.h5ad",
        )
        for x in (values, normalized)
    )
    for name, table in from_logs.items():
        # One rounding of the scaled value, magnified where a difference of means is near 0.
        rtol = 3e-7 if table.dtype == np.float32 else 1e-11
        np.testing.assert_allclose(from_counts[name], table, rtol=rtol, atol=1e-13, err_msg=name)


def test_engine_of_the_settings_is_used(tmp_path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", *log_screen())
    with cx.use_engine("reference"):
        found = result_tables(wilcoxon_test, path, tmp_path / "result.h5ad")
    np.testing.assert_array_equal(
        found["u_statistic"],
        result_tables(wilcoxon_test, path, tmp_path / "result.h5ad")["u_statistic"],
    )
