"""Files sorted by perturbation: a test of a few perturbations reads their cells alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import COLUMN, assert_same_bits, count_screen, log_screen, tables_of, write_h5ad

from crispyx._io.source import MatrixSource
from crispyx._kernels import layout as kernel_layout
from crispyx._kernels.layout import Membership
from crispyx.data.sorting import sort_by_perturbation
from crispyx.de import t_test, wilcoxon_test

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:in .* tests one arm", "ignore:.* holds counts"
)
METHODS = [wilcoxon_test, t_test]
FORMS: dict[str, dict[str, Any]] = {
    "csr in one piece": {"layout": "csr"},
    "csr in chunks": {"layout": "csr", "compression": "gzip"},
    "dense": {"layout": "dense"},
}


def tables(method, path: Path, **options: Any) -> dict[str, np.ndarray]:
    output = path.with_name("result.h5ad")
    method(
        path,
        perturbation_column=COLUMN,
        control_label="control",
        output_path=output,
        force=True,
        **options,
    )
    return tables_of(output)


def cells_read(monkeypatch) -> set[int]:
    """Return a set that is filled with the cells that are read from now on."""
    read: set[int] = set()
    blocks = MatrixSource.native_blocks

    def watched(self, *rest, **more):
        for block in blocks(self, *rest, **more):
            read.update(range(block.start, block.stop))
            yield block

    monkeypatch.setattr(MatrixSource, "native_blocks", watched)
    return read


@given(st.lists(st.integers(-1, 3), max_size=60), st.integers(0, 60), st.integers(1, 9))
def test_stretches_hold_all_cells_of_groups_and_no_long_gap(labels, start, gap) -> None:
    start = min(start, len(labels))
    membership = Membership.from_labels(np.array(labels, dtype=np.int64), 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_layout, "GAP", gap)
        stretches = membership.stretches(start)
    assert all(first < stop for first, stop in stretches)
    inside = [i for first, stop in stretches for i in range(first, stop)]
    assert inside == sorted(set(inside))
    assert {i for i in range(start, len(labels)) if labels[i] >= 0} <= set(inside)
    text = "".join(
        "#" if i in inside else "." if labels[i] < 0 else "!" for i in range(start, len(labels))
    )
    assert all(len(skipped) >= gap for skipped in text.split("#") if skipped)
    used = "".join("#" if labels[i] >= 0 else "." for i in range(start, len(labels)))
    n_skipped = sum(len(run) for run in used.split("#") if len(run) >= gap)
    assert text.count(".") == n_skipped


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_few_perturbations_of_a_sorted_file_are_read_alone(
    method, form: str, tmp_path, monkeypatch
) -> None:
    values, labels = log_screen()
    mixed = write_h5ad(tmp_path / "mixed.h5ad", values, labels, **FORMS[form])
    by_label = tmp_path / "sorted.h5ad"
    rows = sorted(
        range(len(labels)), key=lambda i: (labels[i] is None, labels[i] != "control", labels[i])
    )
    if form == "csr in chunks":  # the product sorts into one piece
        write_h5ad(by_label, values[rows], [labels[i] for i in rows], **FORMS[form])
    else:
        with pytest.warns(UserWarning, match="no label"):
            sort_by_perturbation(mixed, COLUMN, "control", output_path=by_label)
    expected = tables(method, mixed, perturbations=["GATA1"])
    monkeypatch.setattr(kernel_layout, "GAP", 2)
    read = cells_read(monkeypatch)
    assert_same_bits(tables(method, by_label, perturbations=["GATA1"]), expected)
    assert {labels[rows[i]] for i in read} == {"GATA1", "control"}


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_fractions_of_cells_that_are_not_compared_say_what_the_matrix_holds(
    layout: str, tmp_path, monkeypatch
) -> None:
    values, labels = count_screen()
    order = np.argsort([label or "zzz" for label in labels], kind="stable")
    values, labels = values[order], [labels[i] for i in order]
    monkeypatch.setattr(kernel_layout, "GAP", 2)
    counts = write_h5ad(tmp_path / "counts.h5ad", values, labels, layout=layout)
    others = [i for i, label in enumerate(labels) if label == "MYC"]
    values[others[3], np.flatnonzero(values[others[3]])[0]] += 0.5
    logged = write_h5ad(tmp_path / "logged.h5ad", values, labels, layout=layout)
    chosen = {"perturbations": ["GATA1"], "min_pct_both": 0.0}
    with pytest.warns(UserWarning, match="holds counts"):
        transformed = tables(t_test, counts, **chosen)
    taken_as_given = tables(t_test, logged, **chosen)
    assert not np.array_equal(transformed["X"], taken_as_given["X"], equal_nan=True)
    arms = [values[[label == name for label in labels]] for name in ("GATA1", "control")]
    difference = arms[0].mean(axis=0) - arms[1].mean(axis=0)
    shown = ~np.isnan(taken_as_given["X"][0])
    assert shown.sum() > 5
    # Stored as float32.
    np.testing.assert_allclose(taken_as_given["X"][0][shown], difference[shown], rtol=1e-6)
