"""Estimates of what operations write, against what they write."""

from __future__ import annotations

import shutil

import layouts
import numpy as np
import pytest

import crispyx as cx
from crispyx.errors import InputError, InputTypeError

COLUMN = layouts.COLUMN


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 2.0, 1500), (800, 1500)).astype(float)
    labels = ["control"] * 200 + [f"P{i % 40}" for i in range(600)]
    file = tmp_path_factory.mktemp("usage") / "screen.h5ad"
    layouts.write_h5ad(file, counts, labels)
    cx.data.write_obs(file, cx.load_obs(file).assign(batch=["a", "b"] * 400))
    return file


def close(estimate, written) -> bool:
    """Tell whether an estimate is right to 5 % and 100 kB, as its docstring says."""
    size = written.stat().st_size
    return abs(estimate.n_bytes - size) <= 0.05 * size + 100_000


@pytest.mark.filterwarnings("ignore::crispyx.errors.CrispyxWarning")
@pytest.mark.parametrize(
    ("operation", "options"),
    [
        (cx.normalize_total_log1p, {}),
        (cx.data.convert_to_csc, {"verbose": False}),
        (cx.data.sort_by_perturbation, {}),
        (cx.pp.subsample, {"fraction": 0.5}),
        (cx.pp.subsample, {"n_obs": 10, "groupby": COLUMN, "random_state": 3}),
        (cx.pb.average_log_expression, {"perturbation_column": COLUMN}),
        (cx.pb.pseudobulk, {"perturbation_column": COLUMN, "perturbations": ["P1", "P2", "P7"]}),
        (cx.pb.aggregate, {"groupby": [COLUMN, "batch"]}),
        (cx.pb.effects, {"perturbation_column": COLUMN, "batch_column": "batch"}),
        (cx.pb.normalized_effects, {"perturbation_column": COLUMN, "batch_column": "batch"}),
        (cx.tl.residual_effects, {"perturbation_column": COLUMN, "covariates": ["batch"]}),
        (cx.t_test, {"perturbation_column": COLUMN, "scanpy_format": True}),
        (cx.wilcoxon_test, {"groupby": COLUMN, "control_label": "rest", "n_jobs": 1}),
    ],
)
def test_outputs_take_what_was_said(path, tmp_path, operation, options) -> None:
    options = {**options, "output_path": tmp_path / "o.h5ad"}
    estimate = cx.tl.estimate_disk_usage(operation, path, **options)
    operation(path, **options)
    assert close(estimate, options["output_path"])
    assert estimate.fits


def test_conversion_takes_nothing_where_there_is_nothing_to_convert(path, tmp_path) -> None:
    other = cx.data.convert_to_csc(path, output_path=tmp_path / "csc.h5ad", verbose=False).path
    assert cx.tl.estimate_disk_usage(cx.data.convert_to_csr, path).n_bytes == 0
    estimate = cx.tl.estimate_disk_usage(cx.data.convert_to_csr, other)
    back = tmp_path / "csr.h5ad"
    cx.data.convert_to_csr(other, output_path=back, verbose=False)
    assert close(estimate, back)


def test_joined_files_take_what_was_said(path, tmp_path) -> None:
    paths = [path, path.with_name("second.h5ad")]
    shutil.copy2(*paths)
    estimate = cx.tl.estimate_disk_usage(cx.pp.concat_h5ad, paths, output_path=tmp_path / "o.h5ad")
    assert close(estimate, cx.pp.concat_h5ad(paths, tmp_path / "o.h5ad").path)
    paths[1].unlink()


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


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        (cx.pp.downsample_counts, {"quantile": 0.2}),
        (cx.pp.downsample_counts, {"counts_per_cell": 100}),
        (cx.pp.downsample_counts, {"total_counts": 30_000}),
        (
            cx.qc.quality_control_summary,
            {
                "perturbation_column": COLUMN,
                "min_genes": 10,
                "min_cells_per_perturbation": 5,
                "min_cells_per_gene": 50,
            },
        ),
    ],
)
def test_what_keeps_a_part_is_bounded_from_above(path, tmp_path, operation, options) -> None:
    options = {**options, "output_path": tmp_path / "o.h5ad"}
    estimate = cx.tl.estimate_disk_usage(operation, path, **options)
    operation(path, **options)
    size = options["output_path"].stat().st_size
    assert estimate.upper_bound
    assert size <= estimate.n_bytes
    assert estimate.n_bytes < 2 * size + 100_000, "a bound that says nothing"


def test_unknown_operations_and_missing_columns_are_refused(path) -> None:
    with pytest.raises(InputError, match="known are"):
        cx.tl.estimate_disk_usage("umap", path)
    with pytest.raises(InputError, match="perturbation_column"):
        cx.tl.estimate_disk_usage(cx.t_test, path)
    with pytest.raises(InputTypeError, match="'cofactors'"):
        cx.tl.estimate_disk_usage(cx.t_test, path, perturbation_column=COLUMN, cofactors=["batch"])
    with pytest.raises(InputTypeError, match="'covariates'"):
        cx.tl.estimate_disk_usage("t_test", path, perturbation_column=COLUMN, covariates=["batch"])
