"""The calibrated preset, the tests beside Wald's and batches, through the public function."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from layouts import COLUMN, tables_of
from negative_binomial_screens import nb_screen, run_nb

from crispyx.errors import CrispyxWarning, InputError
from reference import size_factors
from reference.nb_glm import (
    CALIBRATED,
    DEFAULT_OPTIONS,
    NBOptions,
    NBStatistics,
    nb_glm,
    without_filters,
)

SHAPE: dict[str, Any] = {"n_genes": 26, "sizes": (50, 20, 15), "seed": 4}
OPEN = {"min_cells_pert": 2, "min_total_count": 1.0}
PRESET = replace(without_filters(CALIBRATED), **OPEN)
PLAIN = replace(without_filters(DEFAULT_OPTIONS), **OPEN)
CASES: dict[str, tuple[dict[str, Any], NBOptions]] = {
    "calibrated": ({"preset": "calibrated"}, PRESET),
    "calibrated, its own values": (
        {"preset": "calibrated", "test": "score", "se_method": "fisher"},
        PRESET,
    ),
    "calibrated, a given dispersion": (
        {"preset": "calibrated", "dispersion": 0.4},
        replace(PRESET, dispersion=0.4),
    ),
    "score": ({"test": "score"}, replace(PLAIN, test="score")),
    "lrt": ({"test": "lrt"}, replace(PLAIN, test="lrt")),
    "permutation": (
        {"test": "permutation", "seed": 3, "most_sets": 1_000},
        replace(PLAIN, test="permutation", seed=3, most_sets=1_000),
    ),
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:.* have a dispersion at its"
)


@pytest.fixture(scope="module")
def screen() -> anndata.AnnData:
    """Counts without missing labels, in three batches; B is in the first two alone."""
    counts, labels = nb_screen(**SHAPE)
    rng = np.random.default_rng(1)
    batch = rng.choice(["b2", "b1", "b3"], len(labels))
    named = np.array([label or "control" for label in labels])
    batch[(named == "B") & (batch == "b3")] = "b1"
    obs = pd.DataFrame({COLUMN: named, "batch": batch, "one": "all"})
    obs.index = obs.index.astype(str)
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs)


def defined(
    data: anndata.AnnData, options: NBOptions, batch: str | None = None, among: Any = None
) -> NBStatistics:
    counts = data.X.toarray()
    chosen = counts if among is None else counts[:, among]
    s = {
        "sparse": size_factors.sparse_median_of_ratios,
        "total": lambda y: size_factors.total_counts(y, 1.0 if among is not None else 0.05),
    }[options.size_factor_method](chosen)
    batches = None if batch is None else data.obs[batch].to_numpy()
    s = size_factors.scaled(s)
    return nb_glm(counts, data.obs[COLUMN].to_numpy(), "control", options, s, batches)


def assert_as_defined(path: Path, expected: NBStatistics) -> None:
    tables = tables_of(path)
    for layer, name in (
        ("logfoldchange_raw_ln", "log_fold_change"),
        ("standard_error_ln", "standard_error"),
        ("z_score", "statistic"),
        ("log_pvalue", "log_pvalue"),
        ("pvalue_adj", "pvalue_adj"),
        ("dispersion", "dispersion"),
        ("status", "status"),
    ):
        # 1e-8 of log dispersions reaches log p of a hundred at a hundred times that size.
        np.testing.assert_allclose(
            tables[layer], getattr(expected, name), rtol=1e-6, atol=1e-6, err_msg=layer
        )


@pytest.mark.parametrize(("arguments", "options"), CASES.values(), ids=CASES)
def test_the_test_is_the_defined_one(arguments, options, screen, tmp_path: Path) -> None:
    found = run_nb(screen, tmp_path / "out.h5ad", **arguments)
    assert_as_defined(found.result_path, defined(screen, options))


@pytest.mark.parametrize("test", ["score", "permutation"])
def test_batches_are_compared_within_as_defined(test: str, screen, tmp_path: Path) -> None:
    arguments = {"preset": "calibrated"} if test == "score" else {"test": test, "most_sets": 1_000}
    options = PRESET if test == "score" else replace(PLAIN, test=test, most_sets=1_000)
    found = run_nb(screen, tmp_path / "out.h5ad", batch_column="batch", **arguments)
    assert_as_defined(found.result_path, defined(screen, options, "batch"))


def test_one_batch_is_the_plain_test_but_for_the_sign_of_ties(screen, tmp_path: Path) -> None:
    plain, one = (
        tables_of(run_nb(screen, tmp_path / "r.h5ad", preset="calibrated", **batch).result_path)
        for batch in ({}, {"batch_column": "one"})
    )
    for name in ("pvalue", "log_pvalue", "dispersion", "standard_error", "z_score"):
        np.testing.assert_array_equal(plain[name], one[name], err_msg=name)


def test_control_genes_alone_make_the_size_factors(screen, tmp_path: Path) -> None:
    among = np.array([12, 20, 24, 25])
    names = [screen.var_names[i] for i in among]
    found = run_nb(screen, tmp_path / "r.h5ad", preset="calibrated", control_genes=names)
    assert_as_defined(found.result_path, defined(screen, PRESET, None, among))


def test_a_p_too_small_for_a_number_keeps_its_logarithm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["control", "A"], [900, 700])
    counts = rng.poisson(30, (1_600, 30)).astype(float)
    counts[900:, 3] = 0
    obs = pd.DataFrame({COLUMN: labels}, index=[f"c{i}" for i in range(1_600)])
    data = anndata.AnnData(sp.csr_matrix(counts), obs=obs)
    found = run_nb(data, tmp_path / "r.h5ad", preset="calibrated")
    tables = tables_of(found.result_path)
    assert tables["pvalue"][0, 3] == 0
    assert tables["log_pvalue"][0, 3] < -1_000
    assert np.isfinite(tables["z_score"][0, 3])
    p = np.delete(tables["pvalue"][0], 3)
    np.testing.assert_allclose(np.delete(tables["log_pvalue"][0], 3), np.log(p), rtol=1e-9)


def test_many_dispersions_at_the_cap_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(["control", "A"], [200, 60])
    amplified = rng.poisson(0.02, (260, 40)) * rng.geometric(0.01, (260, 40))
    obs = pd.DataFrame({COLUMN: labels}, index=[f"c{i}" for i in range(260)])
    data = anndata.AnnData(sp.csr_matrix(amplified.astype(float)), obs=obs)
    import crispyx as cx

    with pytest.warns(CrispyxWarning, match="genes have a dispersion at its cap of 50"):
        cx.nb_glm_test(
            data,
            perturbation_column=COLUMN,
            output_path=tmp_path / "r.h5ad",
            preset="calibrated",
            size_factors=np.ones(260),
            min_pct_both=0.0,
            min_mean_ctrl=0.0,
            min_mean_pert=0.0,
        )
    tables = tables_of(tmp_path / "r.h5ad")
    assert np.nanmax(tables["dispersion"]) == pytest.approx(50)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "clash": (
        {"preset": "calibrated", "test": "lrt", "se_method": "robust"},
        r"se_method='robust' \(the preset's is 'fisher'\), test='lrt' \(the preset's is 'score'\)",
    ),
    "clash with PyDESeq2": ({"preset": "pydeseq2", "test": "score"}, "the preset's is 'wald'"),
    "test": ({"test": "f"}, "test is 'f'; choose one of"),
    "batches with Wald": (
        {"batch_column": "batch"},
        "is for the tests that compare within batches",
    ),
    "batches of own dispersions": (
        {"batch_column": "batch", "test": "score", "dispersion_scope": "per_comparison"},
        "batch_column= needs dispersion_scope='global'",
    ),
    "batches of own size factors": (
        {"batch_column": "batch", "test": "score", "size_factor_scope": "per_comparison"},
        "batch_column= needs size_factor_scope='global'",
    ),
    "sets": ({"test": "permutation", "most_sets": 10}, "most_sets is 10; give a whole number"),
    "seed": ({"test": "permutation", "seed": -1}, "seed is -1; give a whole number >= 0"),
    "control genes": ({"control_genes": ["ACTB"]}, "control_genes names 'ACTB'"),
    "no control genes": ({"control_genes": []}, "control_genes is empty"),
    "control genes in vain": (
        {"control_genes": ["1"], "size_factors": np.ones(85)},
        "size_factors= is given",
    ),
    "control genes of comparisons": (
        {"control_genes": ["1"], "size_factor_scope": "per_comparison"},
        "control_genes= needs size_factor_scope='global'",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_is_refused(arguments, message, screen, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_nb(screen, tmp_path / "out.h5ad", **arguments)
    assert list(tmp_path.iterdir()) == []
