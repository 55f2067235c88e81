"""The commands do what the functions do, take what they take, and say what happened."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import click
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner, Result

import crispyx as cx
from crispyx.cli import main, operations
from crispyx.cli.command import COMMANDS
from crispyx.cli.conduct import as_options
from crispyx.cli.operation import Operation, command_of, plain
from crispyx.cli.signature import SILENT, options_of, value_type
from crispyx.errors import InputError

LIGHT = ("pandas", "anndata", "scipy", "scanpy", "matplotlib", "pyarrow", "tqdm", "psutil")
OPERATIONS: list[Operation] = [
    operations.QC,
    operations.NORMALIZE,
    operations.SORT,
    *operations.CONVERT.values(),
    operations.TENX,
    operations.SUBSAMPLE,
    operations.DOWNSAMPLE,
    operations.CONCAT,
    operations.COMPRESS,
    operations.HVG,
    operations.PCA,
    operations.NEIGHBORS,
    operations.UMAP,
    *operations.PSEUDOBULK,
    *operations.TESTS,
    operations.RESIDUAL_EFFECTS,
    operations.SHRINK,
    operations.CALIBRATION,
    operations.REPORT,
]


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    counts = rng.poisson(2.0, (120, 15))
    labels = np.array(["non-targeting", "A", "B"])[np.arange(120) % 3]
    counts[labels == "A", 0] = 0
    path = tmp_path / "screen.h5ad"
    anndata.AnnData(
        sp.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(
            {"perturbation": labels, "batch": np.array(["x", "y"])[np.arange(120) % 2]},
            index=[f"c{i}" for i in range(120)],
        ),
        var=pd.DataFrame(index=[f"g{j}" for j in range(15)]),
    ).write_h5ad(path)
    return path


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def facts(*arguments: Any) -> dict[str, Any]:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.name}:{one.function}")
def test_a_command_takes_every_parameter_of_its_function(operation: Operation) -> None:
    parameters = dict(list(inspect.signature(operation.load()).parameters.items())[1:])
    options = {
        one.name: one for one in command_of(operation).params if isinstance(one, click.Option)
    }
    assert set(parameters) - set(SILENT) - set(operation.without) <= set(options)
    extra = {"quiet", "as_json", "n_jobs", "memory_limit_gb"}
    extra |= {"scheduler"} if "executor" in parameters else set()
    extra |= {"stage_dir"} if operation.turns else set()
    assert set(options) <= set(parameters) | extra
    for name, parameter in parameters.items():
        if name not in options:
            continue
        option = options[name]
        assert f"--{name.replace('_', '-')}" in option.opts
        assert option.required == (parameter.default is inspect.Parameter.empty)
        if parameter.default not in (None, True, False, inspect.Parameter.empty):
            default = parameter.default
            shown = ", ".join(default) if isinstance(default, tuple) else default
            assert f"[default: {shown}]" in str(option.help)
        assert option.help


def test_what_is_not_given_is_not_passed_on(screen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def spy(data: Any, *, min_genes: int = 7, force: bool = False, verbose: bool = True) -> None:
        seen.update(min_genes=min_genes, force=force, verbose=verbose)

    monkeypatch.setattr("crispyx.qc.quality_control_summary", spy)
    command = command_of(
        Operation("x", "crispyx.qc", "quality_control_summary", "X.", lambda *_: {}, lambda _: "")
    )
    assert CliRunner().invoke(command, [str(screen), "--threads", "1"]).exit_code == 0
    assert seen == {"min_genes": 7, "force": False, "verbose": False}
    assert CliRunner().invoke(command, [str(screen), "--min-genes", "3", "--force"]).exit_code == 0
    assert seen == {"min_genes": 3, "force": True, "verbose": False}


def test_an_annotation_without_counterpart_is_not_guessed_at() -> None:
    with pytest.raises(InputError, match="ndarray"):
        value_type("np.ndarray | None")

    def function(data: Any, sizes: np.ndarray) -> None:
        """Nothing."""

    assert options_of(function, without=("sizes",)) == []


def test_the_chain_of_commands_gives_the_numbers_of_python(screen: Path, tmp_path: Path) -> None:
    kept = facts(
        "qc", screen, "--perturbation-column", "perturbation", "--min-genes", 2,
        "--min-cells-per-perturbation", 5, "--min-cells-per-gene", 5,
    )  # fmt: skip
    assert kept["n_cells"] == 120
    assert kept["n_perturbations"] == 3
    logged = facts("normalize", kept["output"], "-o", tmp_path / "logs.h5ad")["output"]
    found = facts("de", "wilcoxon", logged, "--perturbation-column", "perturbation")
    expected = cx.wilcoxon_test(
        logged, perturbation_column="perturbation", output_path=tmp_path / "again.h5ad"
    )
    assert found["control"] == expected.control_label == "non-targeting"
    assert found["hits"] == {
        label: int((expected[label].pvalue_adj <= 0.05).sum()) for label in expected.groups
    }
    assert found["hits"]["A"] >= 1
    np.testing.assert_array_equal(
        anndata.read_h5ad(found["output"]).layers["pvalue"],
        anndata.read_h5ad(tmp_path / "again.h5ad").layers["pvalue"],
    )


def test_fold_changes_are_shrunk_as_in_python(screen: Path, tmp_path: Path) -> None:
    fitted = facts("de", "nb-glm", screen, "--perturbation-column", "perturbation")["output"]
    found = facts("shrink", fitted, "--method", "full", "--prior-scale-mode", "per_comparison")
    expected = cx.de.shrink_lfc(
        fitted, method="full", prior_scale_mode="per_comparison", output_path=tmp_path / "in.h5ad"
    )
    assert Path(found["output"]).name == "crispyx_nb_glm_shrunk.h5ad"
    assert found["shrinkage_method"] == "full"
    assert list(found["prior_scale"]) == expected.groups
    tables = [anndata.read_h5ad(path) for path in (found["output"], expected.result_path)]
    np.testing.assert_array_equal(tables[0].X, tables[1].X)
    assert list(found["prior_scale"].values()) == tables[1].uns["prior_scale"].tolist()
    said = call("shrink", fitted, "-o", tmp_path / "stats.h5ad")
    assert said.exit_code == 0
    assert "stats: 2 perturbations x 15 genes, scale of the prior" in said.stderr


def test_page_of_a_screen_is_made_from_its_files(screen: Path, tmp_path: Path) -> None:
    kept = facts(
        "qc", screen, "--perturbation-column", "perturbation", "--min-genes", 2,
        "--min-cells-per-perturbation", 5, "--min-cells-per-gene", 5,
    )  # fmt: skip
    found = facts("de", "wilcoxon", kept["output"], "--perturbation-column", "perturbation")
    made = facts("report", found["output"], "--screen", screen, "--filtered", kept["output"])
    assert made["output"] == str(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Kept are cells with at least 2 genes" in text
    assert "2 perturbations against 40 control cells (non-targeting)" in text
    again = call("report", found["output"])
    assert again.exit_code == 1
    assert "report.html' exists" in again.stderr
    assert call("report", found["output"], "--force", "--screen", screen).exit_code == 1
    Path(kept["output"]).unlink()
    lost = call("report", found["output"], "--force")
    assert "not there any more" in lost.stderr
    assert "--cells" in lost.stderr


def test_matrices_are_converted_and_sorted(screen: Path, tmp_path: Path) -> None:
    turned = facts("convert", screen, "--to", "csc", "-o", tmp_path / "turned.h5ad")
    assert turned["layout"] == "csc"
    ordered = facts("sort", screen, "--output", tmp_path / "ordered.h5ad")
    labels = anndata.read_h5ad(ordered["output"]).obs["perturbation"].astype(str)
    assert list(dict.fromkeys(labels)) == ["non-targeting", "A", "B"]


def test_files_are_joined_thinned_and_made_smaller(screen: Path, tmp_path: Path) -> None:
    both, again = tmp_path / "both.h5ad", screen.with_name("again.h5ad")
    again.write_bytes(screen.read_bytes())
    joined = facts("concat", screen, again, "-o", both, "--keys", "one", "--keys", "two")
    assert joined["n_cells"] == 240
    assert joined["input"] == [str(screen), str(again)]
    assert set(cx.load_obs(both)["file"]) == {"one", "two"}
    few = facts("subsample", both, "--n-obs", 9, "--groupby", "file")
    assert few["n_cells"] == 18
    thin = facts("downsample", few["output"], "--counts-per-cell", 7, "-o", tmp_path / "t.h5ad")
    assert set(anndata.read_h5ad(thin["output"]).X.sum(axis=1).A1) == {7}
    small = facts("compress", thin["output"])
    expected = anndata.read_h5ad(thin["output"]).X.toarray()
    np.testing.assert_array_equal(anndata.read_h5ad(small["output"]).X.toarray(), expected)


def test_residual_effects_are_those_of_python(screen: Path, tmp_path: Path) -> None:
    done = facts(
        "residual-effects", screen, "--perturbation-column", "perturbation", "--covariates", "batch"
    )
    assert (done["n_profiles"], done["n_genes"]) == (2, 15)
    python = cx.tl.residual_effects(
        screen,
        perturbation_column="perturbation",
        covariates=["batch"],
        output_path=tmp_path / "python.h5ad",
    )
    found = anndata.read_h5ad(done["output"])
    np.testing.assert_array_equal(found.X, python.to_memory().X)


def test_disk_usage_takes_the_options_of_the_command_it_is_about(screen: Path) -> None:
    for name, function, options in (
        ("subsample", cx.pp.subsample, {"n_obs": 7}),
        ("wilcoxon", cx.wilcoxon_test, {"perturbation_column": "perturbation"}),
        ("convert-to-csc", cx.data.convert_to_csc, {}),
    ):
        given = [text for key, value in options.items() for text in (f"--{key}", value)]
        given = [text.replace("_", "-") if str(text)[:2] == "--" else text for text in given]
        said = facts("disk-usage", name, screen, *given)
        expected = cx.tl.estimate_disk_usage(function, screen, **options)
        assert (said["bytes"], said["upper_bound"]) == (expected.n_bytes, expected.upper_bound)
        assert said["fits"]
    assert [path.name for path in screen.parent.iterdir()] == ["screen.h5ad"]
    line = call("disk-usage", "downsample", screen, "--counts-per-cell", 5).stderr
    assert "downsample_counts would write at most 0.1 MB" in line


def test_components_are_added_in_place(screen: Path) -> None:
    assert facts("pca", screen, "--n-comps", 3)["added"] == ["obsm/X_pca", "varm/PCs", "uns/pca"]
    assert anndata.read_h5ad(screen).obsm["X_pca"].shape == (120, 3)


def test_profiles_of_several_columns(screen: Path) -> None:
    found = facts(
        "pseudobulk", "aggregate", screen, "--groupby", "perturbation", "--groupby", "batch"
    )
    assert found["n_profiles"] == 6


def test_info_says_what_the_file_is(screen: Path) -> None:
    found = facts("info", screen)
    assert (found["n_cells"], found["n_genes"], found["values"]) == (120, 15, "counts")
    assert found["perturbation_column"] == "perturbation"
    assert found["control_label"] == "non-targeting"
    assert found["cells_of_labels"] == {"A": 40, "B": 40, "non-targeting": 40}
    said = call("info", screen)
    assert "120 cells x 15 genes, csr" in said.stdout
    assert not said.stderr


def test_summaries_go_to_standard_error_and_quiet_says_nothing(screen: Path) -> None:
    loud = call("normalize", screen)
    assert loud.stdout == ""
    assert "120 cells x 15 genes" in loud.stderr
    quiet = call("normalize", screen, "--quiet")
    assert quiet.exit_code == 0
    assert quiet.output == ""
    assert call("normalize", screen, "--quiet", "--json").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["normalize", "absent.h5ad"], 1, "does not exist"),
        (["normalize", "{screen}", "--target-sum", "-1"], 1, "target_sum"),
        (["de", "wilcoxon", "{screen}", "--perturbation-column", "nope"], 1, "nope"),
        (["qc", "{screen}"], 2, "--perturbation-column"),
        (["normalize", "{screen}", "--nope"], 2, "--nope"),
        (["convert", "{screen}", "--to", "coo"], 2, "coo"),
        (["qd", "{screen}"], 2, "No such command"),
    ],
)
def test_faults_end_with_their_exit_code_and_one_line(
    screen: Path, arguments: list[str], code: int, words: str
) -> None:
    done = call(*(one.format(screen=screen) for one in arguments))
    assert done.exit_code == code
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.output


def test_messages_name_options_of_the_command_in_place_of_arguments(screen: Path) -> None:
    wrong = ["--perturbation-column", "perturbation", "--control-label", "NT"]
    told = CliRunner().invoke(main, ["de", "wilcoxon", str(screen), *wrong]).stderr
    assert "give --control-label" in told
    assert "control_label=" not in told
    command = command_of(operations.QC)
    with click.Context(command):
        assert as_options("or force=True to replace it") == "or --force to replace it"
        assert (
            as_options("give memory_limit_gb=0.5 or more") == "give --memory-limit-gb 0.5 or more"
        )
        for other in ("adata.f(force=True)", "force=False", "copy=True", "covariates=['a']", "x=1"):
            assert as_options(other) == other
    assert as_options("force=True") == "force=True"  # no command is running


def test_an_interrupted_command_says_so(screen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, verbose: bool = True) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crispyx.data.normalize_total_log1p", interrupted)
    done = call("normalize", screen)
    assert done.exit_code == 130
    assert "--resume" in done.stderr


def test_threads_and_memory_are_those_asked_for(
    screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(data: Any, verbose: bool = True) -> Any:
        seen.append((cx.settings.n_threads, cx.settings.memory_limit_gb, cx.settings.progress))
        return cx.AnnData(screen)

    monkeypatch.setattr("crispyx.data.normalize_total_log1p", spy)
    assert call("normalize", screen, "--threads", 3, "--memory", 0.5, "--quiet").exit_code == 0
    assert call("normalize", screen).exit_code == 0
    assert seen == [(3, 0.5, False), (None, None, None)]


def test_every_listed_command_has_help() -> None:
    for name in COMMANDS:
        done = call(name, "--help")
        assert done.exit_code == 0, name
        assert "Usage: " in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_complete_this_command(shell: str) -> None:
    script = call("completion", shell).stdout
    assert "_CRISPYX_COMPLETE" in script
    assert "crispyx" in script


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stderr.split())


def test_the_list_of_commands_is_shown_without_any_heavy_module() -> None:
    loaded = modules_after(
        "from crispyx.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    )
    assert not loaded & set(LIGHT)
    assert "click" in loaded


def test_importing_crispyx_imports_no_heavy_module() -> None:
    assert not modules_after("import crispyx") & {*LIGHT, "click"}


def test_json_has_no_nan_and_no_numpy() -> None:
    given = {"a": np.float64("nan"), "b": (np.int64(3), Path("x")), 1: [float("inf"), True]}
    assert plain(given) == {"a": None, "b": [3, "x"], "1": [None, True]}
