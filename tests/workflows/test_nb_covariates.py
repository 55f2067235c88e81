"""The negative binomial test beside covariates, through the public door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
from layouts import assert_same_bits, tables_of
from scipy.special import erfc

import crispyx as cx
from crispyx.errors import CrispyxWarning, InputError, MissingColumnError

ALPHA = 0.3
EVERY_GENE: dict[str, Any] = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0}


def screen(seed: int = 0, n_cells: int = 260, n_genes: int = 14) -> anndata.AnnData:
    """Return counts that follow batch, sex and depth, in batches that lack an arm."""
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, 4, n_cells)
    label = np.where(rng.random(n_cells) < 0.5, "control", rng.choice(["A", "B"], n_cells))
    label[(batch == 3) & (label == "A")] = "control"
    label[(batch == 0) & (label == "control")] = "B"
    male, stress = rng.random(n_cells) < 0.4, rng.normal(2, 3, n_cells)
    s = np.exp(rng.normal(0, 0.4, n_cells))
    mean = np.exp(rng.normal(0.6, 0.8, n_genes))
    shift = rng.normal(0, 0.6, (4, n_genes))[batch] + np.outer(male, rng.normal(0, 0.4, n_genes))
    shift += np.outer(stress - 2, rng.normal(0, 0.1, n_genes)) + 0.5 * (label == "A")[:, None]
    noise = rng.gamma(1 / ALPHA, ALPHA, (n_cells, n_genes))
    counts = rng.poisson(s[:, None] * mean * np.exp(shift) * noise).astype(np.float32)
    obs = pd.DataFrame(
        {
            "perturbation": label,
            "batch": pd.Categorical([f"lane{b}" for b in batch]),
            "male": male,
            "stress": stress,
            "s": s,
        },
        index=[f"c{i}" for i in range(n_cells)],
    )
    adata = anndata.AnnData(sp.csr_matrix(counts), obs=obs)
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    return adata


def run(adata: Any, output: Path, **arguments: Any) -> anndata.AnnData:
    given = {"size_factors": screen().obs["s"].to_numpy(), **EVERY_GENE, **arguments}
    result = cx.de.nb_glm_test(
        adata,
        perturbation_column="perturbation",
        control_label="control",
        output_path=output,
        **given,
    )
    return anndata.read_h5ad(result.result_path)


def outside(adata: anndata.AnnData, label: str, gene: int, design: np.ndarray) -> tuple:
    """Return effect, standard error and the signed root of the likelihood ratio."""
    used = adata.obs["perturbation"].isin(["control", label]).to_numpy()
    d = (adata.obs["perturbation"] == label).to_numpy(dtype=float)
    x = np.column_stack([design, d])[used]
    x = x[:, x.any(axis=0)]
    y = adata.X.toarray()[used, gene].astype(float)
    family = sm.families.NegativeBinomial(alpha=ALPHA)
    offset = np.log(adata.obs["s"][used])
    fit, null = (
        sm.GLM(y, columns, family=family, offset=offset).fit(tol=1e-14)
        for columns in (x, x[:, :-1])
    )
    root = np.copysign(np.sqrt(2 * (fit.llf - null.llf)), fit.params[-1])
    return fit.params[-1], fit.bse[-1], root


@pytest.mark.parametrize("covariates", [["batch"], ["batch", "male"]], ids=str)
def test_categories_are_adjusted_for_as_by_statsmodels(
    tmp_path: Path, covariates: list[str]
) -> None:
    adata = screen()
    found, ratios = (
        run(
            adata,
            tmp_path / f"{test}.h5ad",
            covariates=covariates,
            dispersion=ALPHA,
            test=test,
        )
        for test in ("wald", "lrt")
    )
    columns = [np.eye(4)[adata.obs["batch"].cat.codes]]
    if "male" in covariates:
        columns.append(adata.obs[["male"]].to_numpy(dtype=float))
    for k, label in enumerate(found.obs_names):
        for gene in range(adata.n_vars):
            effect, error, root = outside(adata, label, gene, np.column_stack(columns))
            row = {name: layer[k, gene] for name, layer in found.layers.items()}
            # tol=1e-6 is the last step; its square is left.
            np.testing.assert_allclose(row["logfoldchange_raw_ln"], effect, rtol=0, atol=1e-8)
            np.testing.assert_allclose(row["standard_error_ln"], error, rtol=1e-7)
            np.testing.assert_allclose(row["z_score"], effect / error, rtol=1e-6)
            # The ratio is flat at both maxima: it is as exact as the sums, which are about 1,000.
            z = ratios.layers["z_score"][k, gene]
            np.testing.assert_allclose(z * abs(z), root * abs(root), rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(
                ratios.layers["pvalue"][k, gene], erfc(abs(z) / np.sqrt(2)), rtol=1e-12
            )
    assert found.uns["covariates"].tolist() == covariates


def test_adjusting_finds_effects_that_batches_hide(tmp_path: Path) -> None:
    adata = screen()
    adjusted = run(adata, tmp_path / "a.h5ad", covariates=["batch"], dispersion=ALPHA)
    plain = run(adata, tmp_path / "b.h5ad", dispersion=ALPHA)
    errors = [abs(one["A"].X / np.log2(np.e) - 0.5).mean() for one in (adjusted, plain)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    "arguments",
    [
        {"covariates": ["batch"]},
        {"covariates": ["batch", "stress"]},
        {"covariates": ["stress"], "se_method": "robust"},
        {"covariates": ["batch", "male"], "preset": "calibrated"},
        {"covariates": ["batch"], "test": "permutation", "most_sets": 1000},
        {"covariates": ["batch", "male"], "test": "lrt"},
        {"covariates": ["batch", "stress"], "test": "lrt"},
    ],
    ids=str,
)
def test_compiled_is_as_defined_and_independent_of_blocks_and_threads(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    adata = screen()
    first = run(adata, tmp_path / "a.h5ad", n_jobs=1, chunk_size=3, **arguments)
    second = run(adata, tmp_path / "b.h5ad", n_jobs=3, **arguments)
    assert first.n_obs == 2
    assert_same_bits(tables_of(tmp_path / "a.h5ad"), tables_of(tmp_path / "b.h5ad"))
    with cx.use_engine("reference"):
        defined = run(adata, tmp_path / "c.h5ad", **arguments)
    for name in ("logfoldchange_raw_ln", "standard_error_ln", "dispersion", "z_score"):
        np.testing.assert_allclose(
            second.layers[name], defined.layers[name], rtol=1e-6, atol=1e-7, err_msg=name
        )


def test_the_layout_of_the_file_changes_nothing(tmp_path: Path) -> None:
    adata = screen()
    for name, form in (("csr", sp.csr_matrix), ("csc", sp.csc_matrix), ("dense", np.asarray)):
        matrix = adata.X.toarray()
        adata.X = form(matrix)
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
        adata.X = sp.csr_matrix(matrix)
        run(tmp_path / f"{name}.h5ad", tmp_path / f"r_{name}.h5ad", covariates=["batch", "stress"])
    expected = tables_of(tmp_path / "r_csr.h5ad")
    for name in ("csc", "dense"):
        assert_same_bits(tables_of(tmp_path / f"r_{name}.h5ad"), expected)


def test_a_perturbation_in_batches_of_its_own_is_named(tmp_path: Path) -> None:
    adata = screen()
    adata.obs["batch"] = np.where(adata.obs["perturbation"] == "A", "own", "shared")
    with pytest.warns(CrispyxWarning, match="1 perturbations cannot be told.*'A'"):
        found = run(adata, tmp_path / "r.h5ad", covariates=["batch"])
    assert np.isnan(found["A"].layers["pvalue"]).all()
    names = found.uns["status_names"]
    assert {str(names[int(s)]) for s in found["A"].layers["status"][0]} == {"confounded"}
    assert np.isfinite(found["B"].layers["pvalue"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"covariates": ["batch"], "batch_column": "batch"}, "name 'batch' among"),
        ({"covariates": ["batch"], "preset": "pydeseq2"}, "preset='calibrated', which does"),
        ({"covariates": ["batch"], "size_factor_scope": "per_comparison"}, "give size_factors="),
        ({"covariates": ["batch"], "dispersion_scope": "per_comparison"}, "dispersion_scope"),
        ({"covariates": ["batch"], "optimization_method": "irls"}, "NBGLMBatchFitter"),
        ({"covariates": ["batch"], "cook_filter": True}, "cook_filter=False"),
        ({"covariates": ["stress"], "test": "score"}, "categories made of them"),
    ],
)
def test_what_covariates_cannot_be_combined_with_is_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(screen(), tmp_path / "r.h5ad", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_covariate_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingColumnError, match="'lane'"):
        run(screen(), tmp_path / "r.h5ad", covariates="lane")
