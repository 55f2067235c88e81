"""Estimates of what operations write, against what they write."""

from __future__ import annotations

import layouts
import numpy as np
import pytest

import crispyx as cx
from crispyx.errors import InputError

COLUMN = layouts.COLUMN


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 2.0, 1500), (800, 1500)).astype(float)
    labels = ["control"] * 200 + [f"P{i % 40}" for i in range(600)]
    return layouts.write_h5ad(tmp_path_factory.mktemp("usage") / "screen.h5ad", counts, labels)


def close(estimate, written) -> bool:
    """Tell whether an estimate is right to 5 % and 100 kB, as its docstring says."""
    size = written.stat().st_size
    return abs(estimate.n_bytes - size) <= 0.05 * size + 100_000


@pytest.mark.parametrize(
    "operation", [cx.normalize_total_log1p, cx.data.convert_to_csc, cx.data.sort_by_perturbation]
)
def test_copies_take_what_was_said(path, tmp_path, operation) -> None:
    estimate = cx.tl.estimate_disk_usage(operation, path)
    found = operation(path, output_path=tmp_path / "o.h5ad")
    assert close(estimate, getattr(found, "path", found))
    assert not estimate.upper_bound
    assert estimate.fits


@pytest.mark.filterwarnings("ignore::crispyx.errors.CrispyxWarning")
@pytest.mark.parametrize("method", ["wilcoxon", "t-test", "nb_glm"])
def test_results_take_what_was_said(path, tmp_path, method) -> None:
    estimate = cx.tl.estimate_disk_usage(
        "rank_genes_groups", path, perturbation_column=COLUMN, method=method
    )
    result = cx.tl.rank_genes_groups(
        path, perturbation_column=COLUMN, method=method, output_dir=tmp_path
    )
    assert close(estimate, result.result_path)


def test_what_keeps_a_part_is_bounded_from_above(path, tmp_path) -> None:
    estimate = cx.tl.estimate_disk_usage("subsample", path)
    found = cx.pp.subsample(path, fraction=0.5, output_path=tmp_path / "o.h5ad")
    assert estimate.upper_bound
    assert found.path.stat().st_size <= estimate.n_bytes


def test_unknown_operations_and_missing_columns_are_refused(path) -> None:
    with pytest.raises(InputError, match="known are"):
        cx.tl.estimate_disk_usage("umap", path)
    with pytest.raises(InputError, match="perturbation_column"):
        cx.tl.estimate_disk_usage(cx.t_test, path)
