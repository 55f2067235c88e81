"""Shrunken fold changes of a result are what reference.apeglm defines, and say what they are of."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from layouts import COLUMN, assert_same_bits, in_memory, log_screen, tables_of, write_h5ad
from negative_binomial_screens import nb_screen, run_nb, write_screen

import crispyx as cx
from crispyx.de import nb_old_result, nb_shrinkage
from crispyx.errors import InputError, MissingFileError, OutputExistsError
from reference import apeglm, size_factors
from reference.nb_coefficients import Arm

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:.* have a dispersion at its upper bound"
)

CHANGED = {"X", "logfoldchanges", "standard_error", "standard_error_ln"}
UNCHANGED = [
    "logfoldchange_raw",
    "logfoldchange_raw_ln",
    "intercept",
    "z_score",
    "pvalue",
    "pvalue_adj",
    "dispersion",
    "dispersion_raw",
    "dispersion_trend",
    "iterations",
    "converged",
    "status",
    "pts",
    "pts_rest",
]
LITERAL = {"preset": "pydeseq2"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a result of the small screen, which stays beside it."""
    folder = tmp_path_factory.mktemp("shrinkage")
    return run_nb(write_screen(folder / "screen.h5ad"), folder / "nb.h5ad").result_path


def shrunk_tables(path: Path, output: Path, **options: Any) -> dict[str, np.ndarray]:
    return tables_of(cx.de.shrink_lfc(path, output_path=output, force=True, **options).result_path)


def scale_of(tables: dict[str, np.ndarray], rows: slice = slice(None)) -> float:
    """Return the scale of the prior by the definition."""
    error = np.where(tables["standard_error_ln"] > 0, tables["standard_error_ln"], np.nan)
    pairs = list(zip(tables["logfoldchange_raw_ln"][rows], error[rows], strict=True))
    return apeglm.prior_scale(apeglm.prior_variance(lambda: pairs))


def arms_of(k: int, gene: int) -> tuple[Arm, Arm]:
    counts, labels = nb_screen()
    s = size_factors.scaled(size_factors.sparse_median_of_ratios(counts))
    names = np.array(labels)
    groups = [names == "control", names == ("A", "B")[k]]
    control, perturbed = (Arm.of(counts[used, gene], s[used]) for used in groups)
    return control, perturbed


@pytest.mark.parametrize("mode", ["global", "per_comparison"])
def test_full_shrinkage_is_that_of_the_definition(fitted: Path, tmp_path: Path, mode: str) -> None:
    before = tables_of(fitted)
    after = shrunk_tables(
        fitted, tmp_path / "out.h5ad", method="full", prior_scale_mode=mode, batch_size=5
    )
    n_seen = 0
    for k, gene in np.ndindex(*before["X"].shape):
        if not np.isfinite(before["pvalue"][k, gene]):
            assert np.isnan(after["logfoldchanges"][k, gene])
            continue
        scale = scale_of(before, slice(k, k + 1) if mode == "per_comparison" else slice(None))
        alpha = float(before["dispersion"][k, gene])
        expected = apeglm.shrink_counts(*arms_of(k, gene), alpha, scale)
        found = after["logfoldchanges"][k, gene], after["standard_error"][k, gene]
        wanted = expected.log_fold_change / math.log(2), expected.standard_error / math.log(2)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)
        assert after["shrinkage_converged"][k, gene] == 1
        n_seen += 1
    assert n_seen >= 20


def test_shrinkage_of_statistics_is_that_of_the_definition(fitted: Path, tmp_path: Path) -> None:
    before, after = tables_of(fitted), shrunk_tables(fitted, tmp_path / "out.h5ad")
    scale = scale_of(before)
    for k, gene in np.argwhere(np.isfinite(before["pvalue"])).tolist():
        b, s = (before[name][k, gene] for name in ("logfoldchange_raw_ln", "standard_error_ln"))
        expected = apeglm.shrink_statistics(float(b), float(s), scale)
        assert after["X"][k, gene] * math.log(2) == pytest.approx(
            expected.log_fold_change, rel=1e-7, abs=1e-10
        )
        assert after["standard_error_ln"][k, gene] == pytest.approx(expected.standard_error)
    tested = np.isfinite(before["pvalue"])
    assert (np.abs(after["X"][tested]) <= np.abs(before["X"][tested])).all()
    assert (np.abs(after["X"][tested]) < 0.99 * np.abs(before["X"][tested])).any()


@pytest.mark.parametrize("method", ["stats", "full"])
def test_everything_else_stays(fitted: Path, tmp_path: Path, method: str) -> None:
    before = tables_of(fitted)
    after = shrunk_tables(fitted, tmp_path / "out.h5ad", method=method)
    assert_same_bits({name: after[name] for name in UNCHANGED}, {n: before[n] for n in UNCHANGED})
    assert_same_bits({"X": after["X"]}, {"X": after["logfoldchanges"]})
    assert_same_bits({"X": after["X"]}, {"X": after["logfoldchange"]})
    result = cx.de.load_result(tmp_path / "out.h5ad")
    assert result.groups == ["A", "B"]
    np.testing.assert_array_equal(result["A"].effect_size, after["X"][0])
    with h5py.File(tmp_path / "out.h5ad") as file:
        uns = {name: file[f"uns/{name}"][()] for name in ("lfc_base", "prior_scale", "profiling")}
        assert file["uns/shrinkage_method"].asstr()[()] == method
        assert file["uns/size_factors"].shape == (65,)
    assert uns["lfc_base"] == b"log2"
    assert uns["profiling"] == b"NA"
    assert uns["prior_scale"].tolist() == [scale_of(before)] * 2


@pytest.mark.parametrize(
    "options", [{}, {"lfc_base": "ln"}, LITERAL, {"size_factor_scope": "per_comparison"}]
)
def test_inside_the_test_it_is_the_same_to_the_bit(options: dict[str, Any], tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    run_nb(screen, tmp_path / "fitted.h5ad", **options)
    inside = run_nb(screen, tmp_path / "inside.h5ad", lfc_shrinkage_type="apeglm", **options)
    mode = "per_comparison" if options == LITERAL else "global"
    apart = shrunk_tables(
        tmp_path / "fitted.h5ad", tmp_path / "apart.h5ad", method="full", prior_scale_mode=mode
    )
    assert_same_bits(tables_of(inside.result_path), apart)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "apart.h5ad",
        "fitted.h5ad",
        "inside.h5ad",
        "screen.h5ad",
    ]


def test_the_preset_gives_the_literal_mode_and_error(tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    path = run_nb(screen, tmp_path / "nb.h5ad", **LITERAL, size_factors=np.ones(65)).result_path
    before = tables_of(path)
    after = shrunk_tables(
        path, tmp_path / "out.h5ad", method="full", prior_scale_mode="per_comparison"
    )
    counts, labels = nb_screen()
    names, gene = np.array(labels), 9
    arms = [
        Arm.of(y, np.ones(len(y))) for y in (counts[names == n, gene] for n in ("control", "A"))
    ]
    scale = scale_of(before, slice(0, 1))
    alpha = float(before["dispersion"][0, gene])
    expected = apeglm.shrink_counts(arms[0], arms[1], alpha, scale, literal=True)
    assert after["standard_error_ln"][0, gene] == pytest.approx(expected.standard_error, rel=1e-7)
    assert expected.standard_error != pytest.approx(
        apeglm.shrink_counts(arms[0], arms[1], alpha, scale).standard_error, rel=1e-3
    )


@pytest.mark.parametrize("method", ["stats", "full"])
@pytest.mark.parametrize(
    "running", [{"batch_size": 1}, {"n_jobs": 1}, {"n_jobs": 5}, {"memory_limit_gb": 64}]
)
def test_how_it_runs_changes_no_bit(
    fitted: Path, tmp_path: Path, method: str, running: dict[str, Any]
) -> None:
    one = shrunk_tables(fitted, tmp_path / "one.h5ad", method=method)
    assert_same_bits(shrunk_tables(fitted, tmp_path / "two.h5ad", method=method, **running), one)


def test_rows_read_again_for_every_step_change_no_bit(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shrunk_tables(fitted, tmp_path / "one.h5ad")
    monkeypatch.setattr(nb_shrinkage, "working_memory", lambda _: 0)
    assert_same_bits(shrunk_tables(fitted, tmp_path / "two.h5ad"), one)


@pytest.mark.parametrize("layout", ["csc", "dense"])
def test_the_layout_of_the_counts_changes_no_bit(fitted: Path, tmp_path: Path, layout: str) -> None:
    screen = write_screen(tmp_path / "screen.h5ad", layout=layout)
    path = run_nb(screen, tmp_path / "nb.h5ad").result_path
    expected = shrunk_tables(fitted, tmp_path / "one.h5ad", method="full")
    assert_same_bits(shrunk_tables(path, tmp_path / "two.h5ad", method="full"), expected)


def test_both_engines_agree(fitted: Path, tmp_path: Path) -> None:
    for method in ("stats", "full"):
        ours = shrunk_tables(fitted, tmp_path / "one.h5ad", method=method)
        with cx.use_engine("reference"):
            defined = shrunk_tables(fitted, tmp_path / "two.h5ad", method=method)
        for name in CHANGED:
            np.testing.assert_allclose(ours[name], defined[name], rtol=1e-6, atol=1e-8)


def test_a_clamp_holds_means_of_the_likelihood_only(fitted: Path, tmp_path: Path) -> None:
    free = shrunk_tables(fitted, tmp_path / "one.h5ad", method="full")
    held = shrunk_tables(fitted, tmp_path / "two.h5ad", method="full", min_mu=0.5)
    assert not np.allclose(free["X"], held["X"], equal_nan=True)
    statistics = shrunk_tables(fitted, tmp_path / "one.h5ad")
    same = shrunk_tables(fitted, tmp_path / "two.h5ad", min_mu=0.5)
    assert_same_bits(statistics, same)


def test_a_stopped_run_goes_on(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = shrunk_tables(fitted, tmp_path / "whole.h5ad", method="full")
    output, seen = tmp_path / "out.h5ad", []
    work = nb_shrinkage.Shrinking.of_counts

    def stops(self: Any, columns: Any, block: Any) -> Any:
        seen.append(block.start)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return work(self, columns, block)

    options = {"method": "full", "batch_size": 4, "output_path": output}
    with monkeypatch.context() as patch:
        patch.setattr(nb_shrinkage.Shrinking, "of_counts", stops)
        with pytest.raises(KeyboardInterrupt):
            cx.de.shrink_lfc(fitted, **options)
    assert not output.exists()
    seen.clear()
    monkeypatch.setattr(
        nb_shrinkage.Shrinking,
        "of_counts",
        lambda self, columns, block: seen.append(block.start) or work(self, columns, block),
    )
    path = cx.de.shrink_lfc(fitted, **options, resume=True).result_path
    assert seen == [8, 12]
    assert_same_bits(tables_of(path), expected)


def test_names_and_reloading(fitted: Path, tmp_path: Path) -> None:
    by_default = cx.tl.shrink_lfc(fitted).result_path
    assert by_default == fitted.with_name("nb_shrunk.h5ad")
    stamp = by_default.stat().st_mtime_ns
    assert cx.de.shrink_lfc(cx.read_h5ad_ondisk(fitted)).result_path.stat().st_mtime_ns == stamp
    assert cx.de.shrink_lfc(fitted, output_dir=tmp_path, data_name="mine").result_path == (
        tmp_path / "crispyx_mine_shrunk.h5ad"
    )
    with pytest.warns(cx.errors.CrispyxWarning, match="prior_scale_mode"):
        cx.de.shrink_lfc(fitted, prior_scale_mode="per_comparison")
    other = tmp_path / "other.h5ad"
    other.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        cx.de.shrink_lfc(fitted, output_path=other)


def test_time_and_memory_are_noted(fitted: Path, tmp_path: Path) -> None:
    cx.de.shrink_lfc(fitted, output_path=tmp_path / "out.h5ad", profiling=True)
    with h5py.File(tmp_path / "out.h5ad") as file:
        profile = {name: node[()] for name, node in file["uns/profiling"].items()}
    assert set(profile) == {
        "shrinkage_seconds",
        "shrinkage_peak_memory_mb",
        "profiling_enabled",
    }
    assert profile["shrinkage_seconds"] > 0
    assert profile["shrinkage_peak_memory_mb"] > 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "fast"}, "method is 'fast'"),
        ({"prior_scale_mode": "mine"}, "prior_scale_mode is 'mine'"),
        ({"min_mu": -1.0}, "min_mu is -1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"n_jobs": 0}, "n_jobs is 0"),
    ],
)
def test_bad_arguments_are_named(fitted: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        cx.de.shrink_lfc(fitted, **options)


@pytest.mark.parametrize("method", ["stats", "full"])
def test_columns_read_one_block_at_a_time_are_the_same(
    fitted: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = shrunk_tables(fitted, tmp_path / "one.h5ad", method=method)
    monkeypatch.setattr(nb_old_result, "READ_BYTES", 1)
    again = shrunk_tables(fitted, tmp_path / "two.h5ad", method=method, batch_size=3)
    assert_same_bits(again, expected)


def test_cells_left_out_of_the_test_are_left_out_again(tmp_path: Path) -> None:
    counts, labels = nb_screen()
    counts[3] = counts[50] = 0
    screen = write_h5ad(tmp_path / "screen.h5ad", counts, labels)
    fitted = run_nb(screen, tmp_path / "fitted.h5ad").result_path
    with h5py.File(fitted) as file:
        assert np.isnan(file["uns/size_factors"][()]).sum() >= 2
    inside = run_nb(screen, tmp_path / "inside.h5ad", lfc_shrinkage_type="apeglm")
    apart = shrunk_tables(fitted, tmp_path / "apart.h5ad", method="full")
    assert_same_bits(tables_of(inside.result_path), apart)


def test_what_cannot_be_shrunk_is_refused(fitted: Path, tmp_path: Path) -> None:
    shrunk = cx.de.shrink_lfc(fitted, output_path=tmp_path / "out.h5ad").result_path
    with pytest.raises(InputError, match="shrunk already"):
        cx.de.shrink_lfc(shrunk)
    inside = run_nb(
        write_screen(tmp_path / "screen.h5ad"), tmp_path / "in.h5ad", lfc_shrinkage_type="apeglm"
    )
    with pytest.raises(InputError, match="shrunk already"):
        cx.de.shrink_lfc(inside.result_path)
    with pytest.raises(InputError, match="not a differential expression result"):
        cx.de.shrink_lfc(tmp_path / "screen.h5ad")
    other = cx.wilcoxon_test(
        write_h5ad(tmp_path / "log.h5ad", *log_screen()),
        perturbation_column=COLUMN,
        output_path=tmp_path / "other.h5ad",
    )
    with pytest.raises(InputError, match="not a complete result of nb_glm_test"):
        cx.de.shrink_lfc(other.result_path)


def test_counts_that_are_gone_or_changed_are_named_and_statistics_still_work(
    tmp_path: Path,
) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    path = run_nb(screen, tmp_path / "nb.h5ad").result_path
    os.utime(screen, ns=(1, 1))
    with pytest.raises(InputError, match=r"mtime_ns was .* method='stats'"):
        cx.de.shrink_lfc(path, method="full")
    screen.unlink()
    with pytest.raises(MissingFileError, match=r"screen\.h5ad.*does not exist any more"):
        cx.de.shrink_lfc(path, method="full")
    assert cx.de.shrink_lfc(path).result_path.exists()
    memory = run_nb(in_memory(*nb_screen(), sp.csr_matrix), tmp_path / "memory.h5ad").result_path
    with pytest.raises(InputError, match="made of an AnnData in memory"):
        cx.de.shrink_lfc(memory, method="full")


def test_counts_of_a_layer_are_found_again(tmp_path: Path) -> None:
    counts, labels = nb_screen()
    screen = write_h5ad(tmp_path / "screen.h5ad", counts, labels)
    data = sc.read_h5ad(screen)
    data.layers["counts"], data.X = data.X.copy(), data.X * 0
    data.write_h5ad(tmp_path / "layers.h5ad")
    whole = run_nb(screen, tmp_path / "x.h5ad").result_path
    layer = run_nb(tmp_path / "layers.h5ad", tmp_path / "l.h5ad", layer="counts").result_path
    expected = shrunk_tables(whole, tmp_path / "one.h5ad", method="full")
    assert_same_bits(shrunk_tables(layer, tmp_path / "two.h5ad", method="full"), expected)


@pytest.mark.filterwarnings("ignore::crispyx.errors.CrispyxWarning")
def test_the_documented_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_screen(Path("data.h5ad"))
    result = cx.de.nb_glm_test(
        "data.h5ad",
        perturbation_column=COLUMN,
        lfc_shrinkage_type="none",
        data_name="nb_glm_result",
    )
    assert cx.de.shrink_lfc(result.result_path).result_path.exists()
    both = cx.de.shrink_lfc(
        result.result_path, method="full", prior_scale_mode="per_comparison", data_name="full"
    )
    assert both["A"].effect_size.shape == (14,)
