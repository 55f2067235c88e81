"""A whole screen runs as its file says, does nothing twice, and names the line of every fault."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from click.testing import CliRunner, Result

import crispyx as cx
from crispyx.cli import main
from crispyx.cli.run import costs, pipeline
from crispyx.cli.run.command import EXAMPLE
from crispyx.cli.run.configuration import SECTIONS, parameters_of, read_configuration
from crispyx.errors import CrispyxWarning, InputError, MissingFileError
from validation import plan_costs

NO_LAYOUT = "[pca]\nrun = false\n"
NO_PAGE = "[report]\nrun = false\n"
FILE = """\
[screen]
expression = "expression.h5ad"
guides = "guides.h5ad"
output = "out"
control_label = "non-targeting"

[guides]
model = "umi"

[join]
targets = "targets.csv"

[qc]
min_genes = 20
min_cells_per_perturbation = 5
min_cells_per_gene = 5
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    screen = cx.datasets.simulate_screen(
        folder, n_cells=400, n_genes=60, n_perturbations=4, library_size=800.0, seed=4
    )
    assert screen.guide_to_target is not None
    rows = [f"{guide},{target}" for guide, target in screen.guide_to_target.items()]
    (folder / "targets.csv").write_text("\n".join(["guide,target", *rows]) + "\n")
    return folder


@pytest.fixture
def folder(simulated: Path, tmp_path: Path) -> Path:
    for name in ("expression.h5ad", "guides.h5ad", "targets.csv"):
        os.link(simulated / name, tmp_path / name)
    (tmp_path / "screen.toml").write_text(FILE + NO_LAYOUT + NO_PAGE)
    return tmp_path


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


def took(folder: Path, *arguments: str) -> dict[str, float | None]:
    done = call(folder / "screen.toml", "--json", *arguments)
    assert done.exit_code == 0, done.output
    steps = json.loads(done.stdout)["steps"]
    return {one["step"]: one["took_seconds"] for one in steps}


def rewrite(folder: Path, old: str, new: str) -> None:
    file = folder / "screen.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_run_gives_what_the_functions_give_and_a_second_one_does_nothing(folder: Path) -> None:
    rewrite(folder, NO_PAGE, "")
    first = took(folder)
    assert list(first) == ["guides", "join", "qc", "normalize", "de", "report"]
    assert all(seconds is not None for seconds in first.values())
    out = folder / "out"
    calls = cx.gd.assign(folder / "guides.h5ad", "umi")
    targets = dict(
        line.split(",") for line in (folder / "targets.csv").read_text().splitlines()[1:]
    )
    joined = cx.gd.add_to(
        folder / "expression.h5ad", calls, targets=targets, output_path=folder / "joined.h5ad"
    )
    with pytest.warns(CrispyxWarning, match="no label"):
        kept = cx.qc.quality_control_summary(
            joined,
            perturbation_column="perturbation",
            control_label="non-targeting",
            min_genes=20,
            min_cells_per_perturbation=5,
            min_cells_per_gene=5,
            output_path=folder / "kept.h5ad",
        )
    logs = cx.data.normalize_total_log1p(kept.filtered_path, folder / "logs.h5ad", verbose=False)
    expected = cx.wilcoxon_test(
        logs,
        perturbation_column="perturbation",
        control_label="non-targeting",
        output_path=folder / "expected.h5ad",
    )
    found = anndata.read_h5ad(out / "wilcoxon.h5ad")
    np.testing.assert_array_equal(found.layers["pvalue"], expected.pvalues)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Guides were called by the model umi" in page
    assert "Kept are cells with at least 20 genes" in page
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert set(took(folder).values()) == {None}
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_only_what_a_change_touches_is_done_again(folder: Path) -> None:
    took(folder)
    rewrite(folder, NO_PAGE, "[report]\nalpha = 0.1\n")
    assert [name for name, seconds in took(folder).items() if seconds is not None] == ["report"]
    rewrite(folder, "[report]\nalpha = 0.1\n", NO_PAGE)
    rewrite(folder, "min_cells_per_gene = 5", "min_cells_per_gene = 6")
    again = [name for name, seconds in took(folder).items() if seconds is not None]
    assert again == ["qc", "normalize", "de"]
    (folder / "out" / "normalized.h5ad").unlink()
    again = [name for name, seconds in took(folder).items() if seconds is not None]
    assert again == ["normalize", "de"]
    rewrite(folder, "[screen]\n", "[screen]\nn_jobs = 1\nmemory_limit_gb = 2.0\n")
    assert set(took(folder).values()) == {None}


def test_components_are_kept_when_the_test_changes(folder: Path) -> None:
    rewrite(folder, NO_LAYOUT, "[pca]\nn_comps = 3\n[neighbors]\nrun = false\n")
    assert "pca" in took(folder)
    rewrite(folder, "[pca]", '[de]\nmethod = "t-test"\n[pca]')
    again = [name for name, seconds in took(folder).items() if seconds is not None]
    assert again == ["de"]
    assert "X_pca" in anndata.read_h5ad(folder / "out" / "normalized.h5ad").obsm


def test_an_interrupted_run_goes_on_and_ends_with_the_same_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def interrupted(*arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("crispyx.de.wilcoxon_test", interrupted)
        done = call(folder / "screen.toml")
        assert done.exit_code == 130
        assert not (folder / "out" / "wilcoxon.h5ad").exists()
    again = took(folder)
    assert [name for name, seconds in again.items() if seconds is not None] == ["de"]
    found = anndata.read_h5ad(folder / "out" / "wilcoxon.h5ad").layers["pvalue"]
    (folder / "out" / "wilcoxon.h5ad").unlink()
    took(folder)
    again_found = anndata.read_h5ad(folder / "out" / "wilcoxon.h5ad").layers["pvalue"]
    np.testing.assert_array_equal(found, again_found)


def test_a_dry_run_plans_and_writes_nothing(folder: Path) -> None:
    done = call(folder / "screen.toml", "--dry-run", "--json")
    steps = json.loads(done.stdout)["steps"]
    assert [one["done"] for one in steps] == [False] * 5
    assert all(one["seconds"] > 0 and one["memory_gb"] > 0 for one in steps)
    assert not (folder / "out").exists()
    said = call(folder / "screen.toml", "--dry-run").stdout
    assert "to do: 5 of 5 steps" in said
    took(folder)
    assert "to do: 0 of 5 steps" in call(folder / "screen.toml", "--dry-run").stdout


def test_a_dry_run_says_where_its_estimates_come_from(folder: Path) -> None:
    told = json.loads(call(folder / "screen.toml", "--dry-run", "--json").stdout)
    assert told["estimates"] == costs.BASIS
    assert f"estimates: {costs.BASIS}" in call(folder / "screen.toml", "--dry-run").stdout


def screen_size(n_cells: int, n_genes: int, density: float = 0.1) -> costs.Size:
    return costs.Size(
        n_cells=n_cells,
        n_genes=n_genes,
        n_stored=int(density * n_cells * n_genes),
        n_bytes=int(8 * density * n_cells * n_genes),
        n_perturbations=n_cells // 100,
        control=0.1,
        n_guides=n_cells // 40,
        n_guide_counts=2 * n_cells,
    )


def test_every_step_has_rates_and_costs_more_on_a_larger_screen() -> None:
    small, large = screen_size(20_000, 4_000), screen_size(80_000, 8_000)
    for step in (*pipeline.TEXTS, *pipeline.RESULTS):
        name, method = ("de", step) if step in pipeline.RESULTS else (step, "wilcoxon")
        less, more = (costs.cost_of(name, method, one, 1e12) for one in (small, large))
        assert 0 < less.seconds < more.seconds, step
        assert less.memory <= more.memory, step
        assert 0 <= less.disk <= more.disk, step
        within = costs.cost_of(name, method, large, 1e9)
        assert within.seconds == more.seconds
        assert (within.memory <= 1e9) or name in costs.HELD
    for rates in (costs.SECONDS, costs.MEMORY, costs.DISK):
        for kind, rate in rates.items():
            assert set(rate) <= set(costs.terms_of(small)), kind
            assert all(one >= 0 for one in rate.values())


def test_rates_agree_with_the_published_measurements() -> None:
    """The seconds of docs/benchmarks.md, which come from other runs, to a factor of 2.5."""
    screen = replace(screen_size(100_000, 8_000), n_stored=80_600_000, n_perturbations=1_000)
    smaller = replace(screen_size(20_000, 8_000), n_stored=16_100_000, n_perturbations=100)
    for step, method, size, seconds in (
        ("de", "wilcoxon", screen, 2.4),
        ("de", "t-test", screen, 2.8),
        ("qc", "", screen, 2.1),
        ("normalize", "", screen, 1.1),
        ("de", "nb-glm", smaller, 3.0),
    ):
        assert seconds / 2.5 < costs.cost_of(step, method, size, 1e12).seconds < 2.5 * seconds, step


def test_rates_are_found_again_from_what_steps_took() -> None:
    sizes = {k: screen_size(2_000 * (k + 1), 500 * (3 - k)) for k in range(3)}
    taken = [
        plan_costs.Taken(k, "join", 0.4 + 3e-8 * size.n_stored, 0.0, 8.0 * size.n_stored)
        for k, size in sizes.items()
    ]
    seconds, ratio = plan_costs.fitted(sizes, taken, "seconds", ("steps", "values", "cells"))
    assert seconds == pytest.approx({"steps": 0.4, "values": 3e-8, "cells": 0.0}, abs=1e-12)
    np.testing.assert_allclose(ratio, 1, rtol=1e-9)
    disk, _ = plan_costs.fitted(sizes, taken, "disk", ("values",))
    assert disk["values"] == pytest.approx(8.0)


def test_a_calibration_costs_as_many_splits_as_are_asked_for() -> None:
    size = screen_size(20_000, 4_000)
    few, many = (costs.cost_of("calibration", "wilcoxon", size, 1e12, n) for n in (2, 20))
    assert many.seconds > 3 * few.seconds


def test_a_file_of_someone_else_is_not_replaced(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "filtered.h5ad").write_text("mine")
    done = call(folder / "screen.toml")
    assert done.exit_code == 1
    assert "was not made by a run" in done.stderr
    assert (folder / "out" / "filtered.h5ad").read_text() == "mine"
    assert not (folder / "out" / "guide_calls.h5ad").exists()
    assert call(folder / "screen.toml", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "min_genes = 20",
            "min_gene = 20",
            "line 14: [qc] has no min_gene; did you mean min_genes?",
        ),
        (
            "min_genes = 20",
            'min_genes = "20"',
            "line 14: [qc] min_genes = '20'; give a whole number",
        ),
        ("min_genes = 20", "min_genes = 2.5", "[qc] min_genes = 2.5; give a whole number"),
        ("min_genes = 20", "min_genes = true", "give a whole number"),
        ("min_genes = 20", 'cache_mode = "disk"', "choose one of memory, memmap, none"),
        ("min_genes = 20", "control_label = 'x'", "[qc] control_label belongs into [screen]"),
        ("[qc]", "[quality]", "line 13: [quality] is no section"),
        ('model = "umi"', "model = 3", "line 8: [guides] model = 3; give text"),
        (
            'targets = "targets.csv"',
            "targets = 3",
            "line 11: [join] targets = 3; give a table from",
        ),
        ("[qc]", '[de]\nmethod = "deseq"\n[qc]', "choose one of wilcoxon, t-test, nb-glm"),
        ("[qc]", "[de]\nrun = false\n[qc]", "[de] cannot be left out"),
        ('output = "out"', "outputs = 3", "line 4: [screen] has no outputs; did you mean output?"),
        ('expression = "expression.h5ad"', "", "[screen] needs expression"),
        ('guides = "guides.h5ad"', "", "[guides] and [join] need guides"),
        ("[qc]", "[qc", "is not valid TOML"),
        ("run = false", "run = 0", "line 18: [pca] run = 0; true or false"),
    ],
)
def test_faults_of_the_file_are_named_with_their_line(
    folder: Path, old: str, new: str, words: str
) -> None:
    rewrite(folder, old, new)
    with pytest.raises(InputError) as caught:
        read_configuration(folder / "screen.toml")
    assert words in str(caught.value)
    assert "screen.toml" in str(caught.value)


def test_inputs_that_are_not_there_are_named_with_their_line(folder: Path) -> None:
    rewrite(folder, "guides.h5ad", "guide.h5ad")
    with pytest.raises(MissingFileError, match=r"line 3: \[screen\] guides = 'guide.h5ad'"):
        read_configuration(folder / "screen.toml")


def test_targets_need_their_columns(folder: Path) -> None:
    (folder / "targets.csv").unlink()
    (folder / "targets.csv").write_text("a,b\n1,2\n")
    done = call(folder / "screen.toml")
    assert done.exit_code == 1
    assert "it needs guide and target" in done.stderr


def test_the_example_passes_its_own_check(folder: Path) -> None:
    assert call("--example").stdout == EXAMPLE
    os.link(folder / "guides.h5ad", folder / "guide_counts.h5ad")
    (folder / "example.toml").write_text(EXAMPLE)
    found = read_configuration(folder / "example.toml")
    assert found.sections["qc"] == {
        "min_genes": 100, "min_cells_per_perturbation": 50, "min_cells_per_gene": 100,
    }  # fmt: skip
    assert list(found.sections) == list(SECTIONS[1:])


@pytest.mark.parametrize("method", ["wilcoxon", "t-test", "nb-glm"])
def test_every_parameter_of_a_section_has_a_kind_that_toml_can_hold(method: str) -> None:
    from crispyx.cli.run.configuration import TABLES, _wanted

    for section in SECTIONS[1:]:
        for name, parameter in parameters_of(section, method).items():
            if (section, name) not in TABLES:
                assert _wanted(str(parameter.annotation))


@pytest.mark.parametrize("method", ["wilcoxon", "nb-glm"])
def test_the_real_screen_of_papalexi_runs(tmp_path: Path, data_dir: Path, method: str) -> None:
    (tmp_path / "screen.toml").write_text(
        f'[screen]\nexpression = "{data_dir / "papalexi_eccite_299genes.h5ad"}"\n'
        'output = "out"\nperturbation_column = "perturbation"\n'
        "[qc]\nmin_genes = 30\nmin_cells_per_gene = 30\n"
        f'[de]\nmethod = "{method}"\n{NO_LAYOUT}{NO_PAGE}'
    )
    assert list(took(tmp_path)) == ["qc", "normalize", "de"]
    name = {"wilcoxon": "wilcoxon.h5ad", "nb-glm": "nb_glm.h5ad"}[method]
    result = cx.de.load_result(tmp_path / "out" / name)
    genes = result.genes[result.order[result.groups.index("IFNGR1")]]
    # A knock-out of the receptor lowers what interferon switches on.
    assert "PSMB9" in genes[:3]


def test_steps_that_a_run_adds_in_place_never_touch_the_input(folder: Path) -> None:
    rewrite(folder, NO_LAYOUT, "[normalize]\nrun = false\n")
    rewrite(folder, "[qc]", "[qc]\nrun = false")
    names = [one.name for one in pipeline.steps_of(read_configuration(folder / "screen.toml"))]
    assert names[:3] == ["guides", "join", "pca"]
    rewrite(folder, 'guides = "guides.h5ad"', 'perturbation_column = "perturbation"')
    rewrite(folder, '[guides]\nmodel = "umi"\n', "")
    rewrite(folder, '[join]\ntargets = "targets.csv"\n', "")
    names = [one.name for one in pipeline.steps_of(read_configuration(folder / "screen.toml"))]
    assert names == ["de"]
