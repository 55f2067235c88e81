"""The public negative binomial test is what reference.nb_glm defines, and says what it does."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from layouts import COLUMN, in_memory, tables_of, write_h5ad
from negative_binomial_screens import EVERY_GENE, nb_screen, run_nb, write_screen

import crispyx as cx
from crispyx.errors import CrispyxWarning, InputError
from reference import size_factors
from reference.nb_glm import (
    DEFAULT_OPTIONS,
    PYDESEQ2,
    SIZE_FACTORS,
    NBOptions,
    nb_glm,
    without_filters,
)

ALL_GENES = replace(without_filters(DEFAULT_OPTIONS), min_cells_pert=2, min_total_count=1.0)
LITERAL = replace(without_filters(PYDESEQ2), min_cells_pert=2, min_total_count=1.0)
APART = {"size_factor_scope": "per_comparison", "dispersion_scope": "per_comparison"}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "the filters of the defaults": {"min_pct_both": None, **asdict(DEFAULT_OPTIONS.thresholds)},
    "total counts": {"size_factor_method": "total", "scale_size_factors": False},
    "positive counts": {"size_factor_method": "poscounts"},
    "genes that all cells express": {"size_factor_method": "deseq2", "scale_size_factors": False},
    "own size factors": {"size_factor_scope": "per_comparison"},
    "own dispersions": {"dispersion_scope": "per_comparison"},
    "both own": APART,
    "both own, totals": APART | {"size_factor_method": "total"},
    "one dispersion all the same": APART | {"share_dispersion": True},
    "a given dispersion": {"dispersion": 0.6},
    "own size factors, a given dispersion": APART | {"dispersion": 0.6},
    "moments": {"dispersion_method": "moments"},
    "genewise": {"use_map_dispersion": False},
    "no trend": {"shrink_dispersion": False},
    "no trend, own": APART | {"shrink_dispersion": False},
    "irls": {"optimization_method": "irls"},
    "irls without a clamp": {"optimization_method": "irls", "min_mu": 0.0},
    "few steps from zero": {"max_iter": 2, "poisson_init_iter": 0},
    "rough": {"tol": 0.5},
    "robust": {"se_method": "robust"},
    "fisher": {"se_method": "fisher"},
    "cook": {"cook_filter": True},
    "few cells, few counts": {"min_cells_expressed": 20, "min_total_count": 61.0},
    "large groups only": {"min_cells_pert": 10},
    "bonferroni": {"corr_method": "bonferroni"},
}
LAYERS = {
    "logfoldchange_raw_ln": "log_fold_change",
    "intercept": "intercept",
    "standard_error_ln": "standard_error",
    "z_score": "statistic",
    "pvalue": "pvalue",
    "pvalue_adj": "pvalue_adj",
    "dispersion": "dispersion",
    "dispersion_raw": "dispersion_raw",
    "dispersion_trend": "dispersion_trend",
    "iterations": "iterations",
    "converged": "converged",
    "status": "status",
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:.* have a dispersion at its upper bound"
)

EXACT = ("iterations", "converged", "status")


def options_of(arguments: dict[str, Any], base: NBOptions = ALL_GENES) -> NBOptions:
    """Return the definition's options for arguments of the public function."""
    names = {"min_pct_ctrl", "min_pct_pert", "min_mean_ctrl", "min_mean_pert"}
    thresholds = replace(base.thresholds, **{k: v for k, v in arguments.items() if k in names})
    rest = {k: v for k, v in arguments.items() if k not in names | {"min_pct_both"}}
    return replace(base, thresholds=thresholds, **rest)


def defined(
    counts: np.ndarray, labels: list[str | None], options: NBOptions, given: Any = None
) -> Any:
    """Return what the definition says; size factors of the screen are of all its cells."""
    known = np.array([label is not None for label in labels])
    s = given
    if s is None and options.size_factor_scope == "global":
        s = SIZE_FACTORS[options.size_factor_method](counts)
        s = size_factors.scaled(s) if options.scale_size_factors else s
    s = None if s is None else s[known]
    return nb_glm(counts[known], np.array(labels)[known], "control", options, s)


def assert_as_defined(path: Path, expected: Any) -> None:
    tables = tables_of(path)
    for layer, name in LAYERS.items():
        truth = getattr(expected, name)
        if layer in EXACT:
            np.testing.assert_array_equal(tables[layer], truth, err_msg=layer)
        else:
            # 1e-8 of log dispersions reaches fold changes and statistics at about that size.
            np.testing.assert_allclose(tables[layer], truth, rtol=3e-8, atol=3e-8, err_msg=layer)
    log2 = expected.log_fold_change / np.log(2)
    for layer in ("X", "logfoldchanges", "logfoldchange_raw"):
        np.testing.assert_allclose(tables[layer], log2, rtol=3e-8, atol=3e-8)
    np.testing.assert_allclose(
        tables["standard_error"], expected.standard_error / np.log(2), rtol=3e-8
    )


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_screen(tmp_path_factory.mktemp("nb") / "screen.h5ad")


@pytest.mark.parametrize("arguments", CASES.values(), ids=CASES)
def test_the_public_test_is_the_defined_one(arguments: dict, screen: Path, tmp_path: Path) -> None:
    options = options_of(arguments)
    counts, labels = nb_screen()
    if options.size_factor_scope == "per_comparison" and options.shares_dispersion:
        # The definition knows labelled cells only; size factors of the screen are of all cells.
        labels = [label or "B" for label in labels]
        screen = write_h5ad(tmp_path / "labelled.h5ad", counts, labels)
    expected = defined(counts, labels, options)
    found = run_nb(screen, tmp_path / "out.h5ad", **arguments)
    assert found.groups == list(expected.groups)
    assert_as_defined(found.result_path, expected)


@pytest.mark.parametrize("cook_filter", [False, True])
def test_the_preset_is_the_defined_one(cook_filter: bool, screen: Path, tmp_path: Path) -> None:
    expected = defined(*nb_screen(), replace(LITERAL, cook_filter=cook_filter))
    found = run_nb(screen, tmp_path / "out.h5ad", preset="pydeseq2", cook_filter=cook_filter)
    assert_as_defined(found.result_path, expected)
    assert found.result.uns["preset"] == "pydeseq2"


@pytest.mark.parametrize("arguments", [{}, {"preset": "pydeseq2"}, APART])
def test_both_engines_answer_the_same_call(arguments: dict, screen: Path, tmp_path: Path) -> None:
    compiled = tables_of(run_nb(screen, tmp_path / "c.h5ad", **arguments).result_path)
    with cx.use_engine("reference"):
        by_reference = tables_of(run_nb(screen, tmp_path / "r.h5ad", **arguments).result_path)
    assert compiled.keys() == by_reference.keys()
    for name, table in compiled.items():
        np.testing.assert_allclose(table, by_reference[name], rtol=3e-8, atol=3e-8, err_msg=name)


@pytest.mark.parametrize("preset", [None, "pydeseq2"])
def test_given_size_factors_are_taken_as_they_are(preset, screen: Path, tmp_path: Path) -> None:
    counts, labels = nb_screen()
    s = np.exp(np.random.default_rng(0).normal(0.3, 0.2, len(labels)))
    expected = defined(counts, labels, ALL_GENES if preset is None else LITERAL, s)
    unused = [label is None for label in labels]
    s = np.where(unused, np.nan, s)
    found = run_nb(screen, tmp_path / "out.h5ad", size_factors=s, preset=preset)
    assert_as_defined(found.result_path, expected)
    np.testing.assert_array_equal(found.result.uns["size_factors"], s)


def test_natural_logs_and_the_screen_wide_correction(screen: Path, tmp_path: Path) -> None:
    expected = defined(*nb_screen(), ALL_GENES)
    found = run_nb(screen, tmp_path / "out.h5ad", lfc_base="ln", corr_scope="screen")
    np.testing.assert_allclose(found.logfoldchanges, expected.log_fold_change, rtol=3e-8, atol=3e-8)
    p = found.pvalues[np.isfinite(found.pvalues)]
    from reference.multiple_testing import benjamini_hochberg

    np.testing.assert_allclose(
        found.pvalues_adj[np.isfinite(found.pvalues)], benjamini_hochberg(p), rtol=1e-12
    )


def test_a_choice_of_perturbations_keeps_the_callers_order(screen: Path, tmp_path: Path) -> None:
    own = {"dispersion_scope": "per_comparison"}
    both = run_nb(screen, tmp_path / "both.h5ad", **own)
    chosen = run_nb(screen, tmp_path / "out.h5ad", perturbations=["B"], **own)
    assert chosen.groups == ["B"]
    # Its dispersion is its own and its size factors are the file's: all but rounding is the same.
    np.testing.assert_allclose(chosen.pvalues[0], both["B"].pvalue, rtol=1e-9)


def test_the_file_holds_what_its_readers_need(screen: Path, tmp_path: Path) -> None:
    found = run_nb(screen, tmp_path / "out.h5ad", scanpy_format=True, profiling=True)
    file = anndata.read_h5ad(found.result_path)
    kinds = {name: layer.dtype for name, layer in file.layers.items()}
    narrow = {"converged", "iterations", "pts", "pts_rest"}
    assert {name for name, kind in kinds.items() if kind == np.float32} == narrow
    assert kinds.pop("status") == np.uint8
    assert all(kinds[name] == np.float64 for name in kinds.keys() - narrow)
    assert file.X.dtype == np.float64
    uns = file.uns
    assert uns["lfc_base"] == "log2"
    assert uns["fit_method"] == "lbfgsb"
    assert uns["covariates"].size == 0
    assert uns["original_dataset_path"] == str(screen)
    assert uns["size_factor_method"] == "sparse"
    assert uns["size_factor_scope"] == "global"
    assert uns["dispersion_scope"] == "global"
    assert uns["de_filter"]["min_total_count"] == 1
    assert uns["size_factors"].shape == (len(nb_screen()[1]),)
    assert uns["profiling"]["profiling_enabled"]
    assert uns["profiling"]["fit_seconds"] > 0
    assert uns["profiling"]["fit_peak_memory_mb"] > 1
    table = sc.get.rank_genes_groups_df(file, "B")
    best = found.order[found.groups.index("B")][0]
    assert table["names"][0] == found.genes[best]
    one = found["B"]
    assert one.method == "nb_glm"
    np.testing.assert_array_equal(one.effect_size, file["B"].X.ravel())
    plain = run_nb(screen, tmp_path / "plain.h5ad")
    assert plain.result.uns["profiling"] == "NA"


def test_every_missing_p_has_a_reason(screen: Path, tmp_path: Path) -> None:
    found = run_nb(screen, tmp_path / "out.h5ad", min_total_count=61.0, max_iter=3)
    file = anndata.read_h5ad(found.result_path)
    names = file.uns["status_names"][file.layers["status"]]
    missing = np.isnan(found.pvalues)
    assert set(names[missing]) == {"untested"}
    assert set(names[~missing]) >= {"tested", "silent_arm", "not_converged"}
    assert np.isfinite(found.logfoldchanges[~missing]).all()
    np.testing.assert_array_equal(
        names[~missing] == "not_converged", file.layers["converged"][~missing] == 0
    )
    every = run_nb(screen, tmp_path / "every.h5ad", min_total_count=0.0)
    assert np.isnan(every.pvalues[:, 2]).all()
    assert set(every.result.layers["status"][:, 2]) == {3}  # all_zero


def test_one_door_for_all_tests(screen: Path, tmp_path: Path) -> None:
    direct = run_nb(screen, tmp_path / "direct.h5ad")
    for name in ("nb_glm", "nb-glm"):
        found = cx.tl.rank_genes_groups(
            screen, groupby=COLUMN, method=name, output_dir=tmp_path, force=True, **EVERY_GENE
        )
        assert found.result_path == tmp_path / "crispyx_nb_glm.h5ad"
        np.testing.assert_array_equal(found.pvalues, direct.pvalues)


def test_an_anndata_in_memory_is_tested_too(screen: Path, tmp_path: Path) -> None:
    expected = run_nb(screen, tmp_path / "file.h5ad")
    counts, labels = nb_screen()
    found = run_nb(in_memory(counts, labels, sp.csr_matrix), tmp_path / "memory.h5ad")
    np.testing.assert_array_equal(found.pvalues, expected.pvalues)
    assert found.result.uns["original_dataset_path"] == "NA"


def test_the_same_call_reloads_and_another_one_says_what_changed(screen, tmp_path) -> None:
    quiet = EVERY_GENE | {"perturbation_column": COLUMN, "output_dir": tmp_path}
    first = cx.nb_glm_test(screen, **quiet)
    written = first.result_path.stat().st_mtime_ns
    again = cx.nb_glm_test(screen, **quiet, n_jobs=1, chunk_size=3, use_control_cache=False)
    assert again.result_path.stat().st_mtime_ns == written
    with pytest.warns(CrispyxWarning, match="computed again: parameters se_method"):
        cx.nb_glm_test(screen, **quiet, se_method="fisher")


# What it refuses


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-2.0, "-2"), (np.log1p(3), "1.38629")])
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_values_that_are_no_counts_are_refused(value, shown, layout, tmp_path) -> None:
    counts, labels = nb_screen()
    counts[7, 5] = value
    path = write_h5ad(tmp_path / "screen.h5ad", counts, labels, layout=layout, dtype="f8")
    with pytest.raises(InputError) as error:
        run_nb(path, tmp_path / "out.h5ad")
    message = str(error.value)
    assert f"{path} [X] holds {shown} at cell 'cell7' (row 7), column 'gene5' (5)" in message
    assert "nb_glm_test needs counts" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["screen.h5ad"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "shrinkage": ({"lfc_shrinkage_type": "ashr"}, "choose one of .*apeglm"),
    "base": ({"lfc_base": "log10"}, "lfc_base is 'log10'; choose one of"),
    "scope": ({"dispersion_scope": "gene"}, "dispersion_scope is 'gene'; choose one of"),
    "sizes": ({"size_factor_method": "mean"}, "size_factor_method is 'mean'; choose one of"),
    "se": ({"se_method": "hc3"}, "se_method is 'hc3'; choose one of"),
    "optimizer": ({"optimization_method": "adam"}, "optimization_method is 'adam'"),
    "dispersion": ({"dispersion": -1.0}, "dispersion is -1.0; give a number >= 0"),
    "steps": ({"max_iter": 0}, "max_iter is 0; give a whole number >= 1"),
    "tolerance": ({"tol": 0.0}, "tol is 0.0; give a number above 0"),
    "clamp": ({"min_mu": -1.0}, "min_mu is -1.0; give a number >= 0"),
    "start": ({"poisson_init_iter": -1}, "poisson_init_iter is -1; give a whole number >= 0"),
    "share": ({"max_dense_fraction": 0.0}, "max_dense_fraction is 0.0; give a share"),
    "batch": ({"irls_batch_size": 0}, "irls_batch_size is 0; give a number >= 1"),
    "total": ({"min_total_count": -1.0}, "min_total_count is -1.0; give a number >= 0"),
    "preset": ({"preset": "edger"}, r"preset is 'edger'; choose one of \(None, 'pydeseq2'"),
    "rest": ({"control_label": "rest"}, "reference='rest' has another control for each"),
    "number of size factors": ({"size_factors": [1.0]}, r"has shape \(1,\); give one number"),
    "text for size factors": ({"size_factors": "auto"}, "size_factors cannot be read as numbers"),
    "clash": (
        {"preset": "pydeseq2", "min_mu": 0.1, "tol": 1e-8},
        r"min_mu=0.1 \(the preset's is 0.5\); leave them out",
    ),
    "frozen own dispersions": (
        {"freeze_control": True, "dispersion_scope": "per_comparison"},
        "freeze_control=True needs dispersion_scope='global'",
    ),
    "frozen unshrunk": (
        {"freeze_control": True, "shrink_dispersion": False, "use_control_cache": False},
        "needs shrink_dispersion=True and use_control_cache=True",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_is_refused_before_work(arguments, message, screen, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        run_nb(screen, tmp_path / "out.h5ad", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_size_factor_that_cannot_be_is_named(screen: Path, tmp_path: Path) -> None:
    s = np.ones(65)
    s[11] = 0
    with pytest.raises(InputError, match=r"size_factors is 0 at cell 'cell11' \(row 11\)"):
        run_nb(screen, tmp_path / "out.h5ad", size_factors=s)


@pytest.mark.parametrize("scope", ["global", "per_comparison"])
def test_ratios_without_a_gene_in_all_cells_are_refused(scope: str, tmp_path: Path) -> None:
    counts, labels = nb_screen()
    counts[3::4, -2], counts[2::5, -1] = 0, 0
    counts[:, :-2] *= np.arange(len(counts))[:, None] % 3 > 0
    path = write_h5ad(tmp_path / "screen.h5ad", counts, labels)
    arguments = dict.fromkeys(("size_factor_scope", "dispersion_scope"), scope)
    arguments["size_factor_method"] = "deseq2"
    with pytest.raises(InputError, match=r"needs a gene that all .* cells express") as error:
        run_nb(path, tmp_path / "out.h5ad", **arguments)
    assert ("perturbation 'A' with the control" in str(error.value)) == (scope != "global")


# What it warns about


def warned(recorded: pytest.WarningsRecorder) -> list[str]:
    return [str(one.message) for one in recorded if one.category is CrispyxWarning]


def test_clamped_genes_are_counted(screen: Path, tmp_path: Path) -> None:
    arguments = EVERY_GENE | {"perturbation_column": COLUMN, "output_path": tmp_path / "o.h5ad"}
    with pytest.warns(CrispyxWarning) as recorded:
        found = cx.nb_glm_test(screen, **arguments, optimization_method="irls")
    layers = found.result.layers
    eta0 = layers["intercept"][()]
    lowest = np.minimum(eta0, eta0 + layers["logfoldchange_raw_ln"][()])
    n_low = np.count_nonzero((lowest < np.log(0.5)).any(axis=0))
    n_tested = np.count_nonzero(np.isfinite(eta0).any(axis=0))
    assert 0 < n_low < n_tested
    messages = [text for text in warned(recorded) if "min_mu=0.5" in text]
    assert len(messages) == 1
    assert messages[0].startswith(f"{n_low} of {n_tested} tested genes have a fitted mean below")
    assert "pass optimization_method='lbfgsb'" in messages[0]
    # The place the warning names is the caller's, not one of ours.
    assert recorded[-1].filename == __file__


@pytest.mark.filterwarnings("default:.* have a dispersion at its upper bound")
def test_dispersions_at_their_bound_are_counted(screen: Path, tmp_path: Path) -> None:
    arguments = EVERY_GENE | {"perturbation_column": COLUMN, "output_path": tmp_path / "o.h5ad"}
    with pytest.warns(CrispyxWarning) as recorded:
        found = cx.nb_glm_test(screen, **arguments, shrink_dispersion=False)
    n_bound = np.count_nonzero((found.result.layers["dispersion"][()] > 62.999).any(axis=0))
    assert n_bound > 0
    texts = [text for text in warned(recorded) if "upper bound" in text]
    assert [text.split(" of ")[0] for text in texts] == [str(n_bound)]


def test_cells_without_counts_are_left_out(tmp_path: Path) -> None:
    counts, labels = nb_screen()
    empty = counts.copy()
    empty[[5, 9]] = 0
    kept = ~np.isin(np.arange(len(labels)), [5, 9])
    path = write_h5ad(tmp_path / "screen.h5ad", empty, labels)
    with pytest.warns(CrispyxWarning, match=r"2 cells .* have no count at all \(first: 'cell5'\)"):
        found = cx.nb_glm_test(
            path, perturbation_column=COLUMN, output_path=tmp_path / "o.h5ad", **EVERY_GENE
        )
    names = [label for label, used in zip(labels, kept, strict=True) if used]
    without = write_h5ad(tmp_path / "without.h5ad", counts[kept], names)
    expected = run_nb(without, tmp_path / "expected.h5ad")
    np.testing.assert_allclose(found.pvalues, expected.pvalues, rtol=1e-9)
    assert np.isnan(found.result.uns["size_factors"][[5, 9]]).all()


def test_perturbations_are_logged_when_asked(screen: Path, tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.DEBUG, logger="crispyx.de"):
        run_nb(screen, tmp_path / "o.h5ad", verbose=True)
    assert [record.getMessage() for record in caplog.records] == [
        "A: 13 genes tested",
        "B: 12 genes tested",
    ]
