"""The calibration tool: only control cells are tested, and methods at fault are found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

import crispyx as cx
from crispyx.cli import main
from crispyx.cli.run.configuration import read_configuration
from crispyx.cli.run.pipeline import steps_of
from crispyx.de import CalibrationResult, load_calibration
from crispyx.de.calibration_tables import quantiles_of, shares_of
from crispyx.errors import InputError, InputTypeError, OutputExistsError

SIZES = {"ctrl": 600, "A": 60, "B": 120, "shallow": 90, "tiny": 5}
BOUNDS = {"n_splits": 3, "show_progress": False, "perturbation_column": "perturbation"}


BRIEF = {**BOUNDS, "n_splits": 1, "methods": ["wilcoxon", "calibrated"]}


def make_screen(seed: int = 0, n_genes: int = 90) -> anndata.AnnData:
    """Return counts without effects; the cells of "shallow" have half the depth."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(SIZES), list(SIZES.values()))
    depth = np.exp(rng.normal(0, 0.3, len(labels))) * np.where(labels == "shallow", 0.5, 1.0)
    mean = np.exp(rng.uniform(np.log(0.05), np.log(5), n_genes))
    rate = rng.gamma(4.0, 0.25, (len(labels), n_genes)) * mean * depth[:, None]
    order = rng.permutation(len(labels))
    obs = pd.DataFrame(
        {
            "perturbation": labels[order],
            "batch": rng.choice(["x", "y"], len(labels)),
            "guide": np.where(
                labels[order] == "ctrl", rng.choice(["nt1", "nt2", "nt3"], len(labels)), "other"
            ),
        },
        index=[f"c{i}" for i in range(len(labels))],
    )
    counts = sp.csr_matrix(rng.poisson(rate)[order].astype(np.float32))
    return anndata.AnnData(counts, obs, pd.DataFrame(index=[f"g{j}" for j in range(n_genes)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibration")


@pytest.fixture(scope="module")
def screen(folder: Path) -> Path:
    path = folder / "screen.h5ad"
    make_screen().write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def found(screen: Path) -> CalibrationResult:
    return cx.tl.calibration(
        screen, methods=["wilcoxon", "calibrated"], guide_column="guide", **BOUNDS
    )


@pytest.fixture(scope="module")
def brief(folder: Path) -> CalibrationResult:
    return cx.tl.calibration(make_screen(), output_path=folder / "brief.h5ad", **BRIEF)


def same(first: CalibrationResult, second: CalibrationResult) -> None:
    for name in ("bins", "quantiles", "depth", "depth_effect", "groups"):
        pd.testing.assert_frame_equal(
            getattr(first, name), getattr(second, name), check_exact=True, check_dtype=False
        )


def test_the_calibrated_preset_keeps_its_level_on_a_simulated_null(
    found: CalibrationResult,
) -> None:
    row = found.of_all_genes().loc["calibrated"]
    assert row["tests"] > 500
    assert row["low_05"] <= 0.05
    assert row["share_05"] > 0.02
    assert row["low_001"] <= 0.001
    assert 0.7 < row["inflation"] < 1.3


def test_a_shallow_perturbation_is_named_and_inflates_ranks_but_not_the_calibrated_preset(
    found: CalibrationResult,
) -> None:
    shifts = found.depth.set_index("perturbation")["shift"]
    assert shifts["shallow"] == "shallower"
    assert shifts["A"] == shifts["B"] == ""
    effect = found.depth_effect.set_index(["perturbation", "method"])
    ranks, calibrated = (effect.loc[("shallow", name)] for name in ("wilcoxon", "calibrated"))
    assert ranks["share_05"] > 2 * calibrated["share_05"]
    assert ranks["low_05"] > 0.06
    assert calibrated["low_05"] <= 0.05
    assert "shallow" in found.summary()
    assert "far too many" in found.summary()


def test_groups_have_the_sizes_of_perturbations_and_leave_half_of_the_control(
    found: CalibrationResult,
) -> None:
    splits = found.groups[found.groups["kind"] == "splits"]
    assert set(splits["perturbation"]) == {"A", "B", "shallow"}  # "tiny" is too small
    for row in splits.itertuples():
        assert row.n_cells == SIZES[row.perturbation]
        assert row.kept == 1
    assert (splits.groupby("split")["n_cells"].sum() <= SIZES["ctrl"] / 2).all()
    depth = found.groups[found.groups["kind"] == "depth"]
    ratio = found.depth.set_index("perturbation").loc["shallow", "ratio"]
    assert set(depth["perturbation"]) == {"shallow"}
    assert (depth["kept"] == ratio).all()


def test_every_control_guide_is_compared_with_the_others(found: CalibrationResult) -> None:
    guides = found.groups[found.groups["kind"] == "guides"].set_index("perturbation")["n_cells"]
    obs = make_screen().obs
    counted = obs.loc[obs["perturbation"] == "ctrl", "guide"].value_counts()
    assert guides.to_dict() == counted.to_dict()
    assert len(found.of_all_genes("guides")) == 2


def test_perturbed_cells_are_never_tested(tmp_path: Path, brief: CalibrationResult) -> None:
    changed = make_screen()
    counts = changed.X.tolil()
    perturbed = np.flatnonzero(changed.obs["perturbation"] != "ctrl")
    half = changed.n_vars // 2
    moved = counts[perturbed].toarray()
    # Their totals stay, and with them the depths that groups are given.
    counts[perturbed] = np.concatenate([moved[:, half:], moved[:, :half]], axis=1)
    changed.X = counts.tocsr()
    again = cx.tl.calibration(changed, output_dir=tmp_path, **BRIEF)
    same(brief, again)


@pytest.mark.parametrize("layout", ["csc", "dense", "two files"])
def test_numbers_depend_on_neither_layout_nor_threads(
    layout: str, tmp_path: Path, brief: CalibrationResult
) -> None:
    screen: Any = make_screen()
    if layout == "two files":
        paths = [tmp_path / "one.h5ad", tmp_path / "two.h5ad"]
        for path, part in zip(paths, (screen[:400], screen[400:]), strict=True):
            part.copy().write_h5ad(path)
        screen = [str(path) for path in paths]
    else:
        screen.X = screen.X.tocsc() if layout == "csc" else screen.X.toarray()
    n_jobs = 2 if layout == "csc" else 1
    again = cx.tl.calibration(screen, output_dir=tmp_path, n_jobs=n_jobs, **BRIEF)
    assert (again.groups["kept"] < 1).any()  # thinning took part
    same(brief, again)


def test_the_file_holds_the_result_and_is_reused(screen: Path, found: CalibrationResult) -> None:
    again = load_calibration(found.result_path)
    same(found, again)
    before = found.result_path.stat().st_mtime_ns
    cx.tl.calibration(screen, methods=["wilcoxon", "calibrated"], guide_column="guide", **BOUNDS)
    assert found.result_path.stat().st_mtime_ns == before
    leftovers = [one.name for one in screen.parent.iterdir() if one.name.startswith(".")]
    assert not leftovers
    with pytest.raises(InputError, match=r"no result of cx\.tl\.calibration"):
        load_calibration(screen)
    other = screen.with_name("other.h5ad")
    other.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        cx.tl.calibration(screen, output_path=other, **BOUNDS)
    assert other.read_bytes() == b"mine"


def test_groups_get_the_batches_and_depths_of_their_perturbations(tmp_path: Path) -> None:
    screen = make_screen()
    # All cells of A are of one batch.
    screen.obs.loc[screen.obs["perturbation"] == "A", "batch"] = "x"
    result = cx.tl.calibration(
        screen,
        methods={
            "ranks": {"method": "wilcoxon", "min_pct_both": 0.0},
            "calibrated within": {"method": "nb_glm", "preset": "calibrated"},
        },
        batch_column="batch",
        match_depth=True,
        output_dir=tmp_path,
        **{**BOUNDS, "n_splits": 1},
    )
    assert result.methods == ["ranks", "calibrated within"]
    splits = result.groups[result.groups["kind"] == "splits"].set_index("perturbation")
    ratio = result.depth.set_index("perturbation")["ratio"]
    for name in set(splits.index):
        assert (splits.loc[[name], "n_cells"] == SIZES[name]).all()
        assert np.allclose(splits.loc[[name], "kept"], min(1.0, ratio[name]), rtol=0, atol=0)
    rows = result.of_all_genes()
    assert rows.loc["ranks", "share_05"] > rows.loc["calibrated within", "share_05"]


def test_every_method_compares_within_batches_or_is_refused(tmp_path: Path) -> None:
    screen = make_screen()
    half = screen.n_vars // 2
    counts = screen.X.toarray()
    in_x = (screen.obs["batch"] == "x").to_numpy()
    counts[np.ix_(in_x, np.arange(half))] *= 3  # half of the genes differ between batches
    screen.X = sp.csr_matrix(counts)
    # All perturbed cells are of one batch, the control is of both.
    screen.obs.loc[screen.obs["perturbation"] != "ctrl", "batch"] = "x"
    result = cx.tl.calibration(
        screen,
        methods={
            "lrt": {},
            "nb_glm": {"size_factor_method": "total"},
            "lrt without": {"method": "lrt", "batch_column": None},
        },
        batch_column="batch",
        output_dir=tmp_path,
        **{**BOUNDS, "n_splits": 2},
    )
    asked = result.parameters["methods"]
    assert asked["lrt"]["covariates"] == ["batch"]
    assert "covariates" not in asked["lrt without"]
    rows = result.of_all_genes()
    assert rows.loc["lrt without", "low_05"] > 0.2
    for name in ("lrt", "nb_glm"):
        assert rows.loc[name, "tests"] > 100
        assert rows.loc[name, "low_05"] <= 0.05
    for refused in ("pydeseq2", {"clamped": {"method": "nb_glm", "optimization_method": "irls"}}):
        with pytest.raises(InputError, match="cannot compare within the batches") as told:
            cx.tl.calibration(
                screen,
                methods=[refused] if isinstance(refused, str) else refused,
                batch_column="batch",
                output_dir=tmp_path / "none",
                **BOUNDS,
            )
        assert "'batch_column': None" in str(told.value)
    assert not (tmp_path / "none").exists()


def test_a_control_of_one_batch_is_compared_as_without_batches(
    tmp_path: Path, brief: CalibrationResult
) -> None:
    screen = make_screen()
    screen.obs["batch"] = "x"
    methods = ["wilcoxon", "calibrated", "lrt"]
    again = cx.tl.calibration(
        screen, **{**BRIEF, "methods": methods}, batch_column="batch", output_dir=tmp_path
    )
    assert again.of_all_genes().loc["lrt", "tests"] > 0
    both = again.bins[again.bins["method"] != "lrt"].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, brief.bins, check_exact=True, check_dtype=False)


def test_what_cannot_be_done_is_said_before_any_work(screen: Path, tmp_path: Path) -> None:
    for given, words in (
        ({"methods": ["deseq"]}, "choose some of"),
        ({"methods": {"x": {"method": "wilcoxon", "depth": 3}}}, "no argument 'depth'"),
        ({"methods": []}, "methods is empty"),
        ({"methods": {"wilcoxon": {"layer": "counts"}}}, "decides for all methods"),
        ({"methods": {"t_test": {"batch_column": "batch"}}}, "give it beside methods="),
        ({"methods": {"nb_glm": {"test": "exact"}}}, r"methods\['nb_glm'\]: test is 'exact'"),
        ({"control_label": "rest"}, "names no control cells"),
        ({"max_depth_shift": 1.5}, "max_depth_shift"),
        ({"min_cells_pert": 400}, "min_cells_pert"),
    ):
        with pytest.raises(InputError, match=words):
            cx.tl.calibration(screen, output_dir=tmp_path, **{**BOUNDS, **given})
    logged = make_screen()
    logged.X = logged.X.log1p()
    with pytest.raises(InputError, match="is no count"):
        cx.tl.calibration(logged, output_dir=tmp_path, **BOUNDS)
    with pytest.raises(InputError, match="output_path="):
        cx.tl.calibration(make_screen(), **BOUNDS)
    assert not list(tmp_path.iterdir())


def test_tables_of_p_values_agree_with_their_definitions() -> None:
    uniform = (np.arange(10_000) + 0.5) / 10_000
    row = shares_of(uniform)
    assert (row["share_05"], row["share_01"], row["share_001"]) == (0.05, 0.01, 0.001)
    assert row["low_05"] < 0.05 < row["high_05"]
    assert row["inflation"] == pytest.approx(1.0, abs=1e-12)
    empty = shares_of(np.empty(0))
    assert np.isnan(empty["share_05"])
    assert (empty["low_05"], empty["high_05"]) == (0.0, 1.0)
    table = quantiles_of(uniform)
    assert ((table["low"] < table["observed"]) & (table["observed"] < table["high"])).all()
    assert np.allclose(table["observed"], table["expected"], rtol=0.5, atol=0)


def test_the_plot_has_three_panels_and_refuses_what_is_no_result(
    found: CalibrationResult, tmp_path: Path
) -> None:
    axes = cx.pl.calibration(found, savepath=tmp_path / "figure.png")
    assert len(axes) == 3
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    named = {text.get_text() for text in axes[0].get_legend().get_texts()}
    assert named == {"wilcoxon", "calibrated"}
    assert any("shallow" in text.get_text() for text in axes[2].get_yticklabels())
    assert len(cx.pl.calibration(found, kind="guides")) == 3
    with pytest.raises(InputError, match="the result has"):
        cx.pl.calibration(found, kind="nothing")
    with pytest.raises(InputTypeError, match=r"cx\.tl\.calibration"):
        cx.pl.calibration(found.bins)


def test_the_command_says_what_the_function_found(screen: Path, tmp_path: Path) -> None:
    output = tmp_path / "calibration.h5ad"
    arguments = ["--perturbation-column", "perturbation", "--n-splits", "1", "-o", str(output)]
    arguments += ["--methods", "wilcoxon", "--json"]
    answer = CliRunner().invoke(main, ["calibration", str(screen), *arguments])
    assert answer.exit_code == 0, answer.output
    facts = json.loads(answer.stdout)
    result = load_calibration(output)
    assert facts["output"] == str(output)
    assert facts["summary"] == result.summary()
    assert list(facts["shifted"]) == ["shallow"]
    row = result.of_all_genes().loc["wilcoxon"]
    assert facts["shares"]["splits"]["wilcoxon"]["share_05"] == row["share_05"]


def test_a_run_calibrates_when_asked_and_the_report_has_a_section_about_it(
    screen: Path, tmp_path: Path
) -> None:
    plain = (
        f'[screen]\nexpression = "{screen}"\nperturbation_column = "perturbation"\n'
        'control_label = "ctrl"\noutput = "results"\n'
        "[qc]\nrun = false\n[pca]\nrun = false\n"
    )
    configuration = tmp_path / "screen.toml"
    configuration.write_text(plain)
    names = [step.name for step in steps_of(read_configuration(configuration))]
    assert "calibration" not in names
    configuration.write_text(f'{plain}[calibration]\nn_splits = 1\nmethods = ["wilcoxon"]\n')
    answer = CliRunner().invoke(main, ["run", str(configuration)])
    assert answer.exit_code == 0, answer.output
    results = tmp_path / "results"
    assert load_calibration(results / "calibration.h5ad").methods == ["wilcoxon"]
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "p-values without any effect" in page
    assert "1 of 4 perturbations are shallower" in page
