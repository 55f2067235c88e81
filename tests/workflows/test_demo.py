"""One command goes from guide counts to a report, says what it did, and spoils nothing."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import crispyx as cx
from crispyx.cli import main
from crispyx.cli.demo import DemoOptions, run_demo, screen
from crispyx.cli.demo.analysis import thresholds_for
from crispyx.cli.demo.outputs import MANIFEST, OutputFolder, file_name
from crispyx.cli.demo.own_data import OWN_DATA
from crispyx.errors import CrispyxWarning, MissingFileError, OutputExistsError

FILES = {
    "report.html",
    "data/guide_calls.h5ad",
    "data/expression_with_guides.h5ad",
    "data/crispyx_filtered.h5ad",
    "data/crispyx_normalized_log1p.h5ad",
    "data/crispyx_wilcoxon.h5ad",
    "plots/guide_calls.png",
    "plots/guide_comparison.png",
    "plots/guide_fits.png",
    "plots/quality_control.png",
    "tables/differential_expression.csv",
    "tables/guide_calls.csv",
    "tables/guide_fits.csv",
    "tables/perturbations.csv",
}
SIMULATED = {f"data/simulated/{name}.h5ad" for name in ("expression", "guides", "truth")}


def small_screen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "N_CELLS", 1500)
    patch.setattr(screen, "N_GENES", 120)
    patch.setattr(screen, "N_PERTURBATIONS", 6)
    patch.setattr(screen, "LIBRARY_SIZE", 1000.0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_screen(monkeypatch)


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["demo", *map(str, arguments)])


def simulated(folder: Path, *arguments: Any) -> Result:
    return call("--output", folder, "--data", "simulated", *arguments)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Run:
    folder: Path
    result: Result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("demo") / "made" / "demo_output"
    with pytest.MonkeyPatch.context() as patch:
        small_screen(patch)
        return Run(folder, simulated(folder))


class Scripts(HTMLParser):
    """Data blocks of a page and everything it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.loads: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")
        for name, value in attrs:
            is_link = tag == "a" and name == "href"
            if name in {"src", "href", "data", "action"} and not is_link:
                self.loads.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def read_page(folder: Path) -> Scripts:
    return Scripts((folder / "report.html").read_text(encoding="utf-8"))


def test_demo_ends_well_and_makes_every_file(run: Run) -> None:
    assert run.result.exit_code == 0, run.result.output
    made = files(run.folder)
    assert made >= FILES | SIMULATED
    extra = made - FILES - SIMULATED - {MANIFEST}
    assert len(extra) == 6
    assert all(re.fullmatch(r"plots/volcano_GENE\d+\.png", name) for name in extra)


def test_progress_goes_to_stderr_and_findings_to_stdout(run: Run) -> None:
    out, err = run.result.stdout, run.result.stderr
    assert [f"[{step}/8]" in err for step in range(1, 9)] == [True] * 8
    assert "[1/8]" not in out
    for words in ("Simulated data, as asked for", "What was found", "lower it", "report.html"):
        assert words in out
    for command in ("cx.gd.assign(", "cx.gd.add_to(", "cx.tl.rank_genes_groups("):
        assert command in out


def test_report_is_complete_in_itself_and_its_data_can_be_read(run: Run) -> None:
    page = read_page(run.folder)
    assert [load for load in page.loads if not re.search(r"href=#", load)] == []
    data = json.loads(page.scripts[0])
    table = pd.read_csv(run.folder / "tables" / "perturbations.csv")
    assert [group["name"] for group in data["groups"]] == table["perturbation"].tolist()
    hits = [group["lowered"] + group["raised"] for group in data["groups"]]
    assert hits == table["n_genes_changed"].tolist()


def test_report_names_every_file_beside_it(run: Run) -> None:
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    named = set(re.findall(r">((?:data|tables|plots)/[^<]+)<", text))
    assert named == files(run.folder) - SIMULATED - {MANIFEST, "report.html"}


def test_table_holds_the_numbers_of_the_result_file(run: Run) -> None:
    path = run.folder / "tables" / "differential_expression.csv"
    table = pd.read_csv(path, float_precision="round_trip")
    stored = anndata.read_h5ad(run.folder / "data" / "crispyx_wilcoxon.h5ad")
    assert len(table) == stored.n_obs * stored.n_vars
    for column, layer in (("p_value", "pvalue"), ("log2_fold_change", "logfoldchanges")):
        wide = table.pivot(index="perturbation", columns="gene", values=column)
        wide = wide.loc[stored.obs_names, stored.var_names].to_numpy()
        # CSV holds the shortest text that reads back as the same number.
        np.testing.assert_array_equal(wide, stored.layers[layer])


def test_cells_with_several_guides_are_counted_and_in_no_comparison(run: Run) -> None:
    calls = anndata.read_h5ad(run.folder / "data" / "guide_calls.h5ad").obs
    joined = anndata.read_h5ad(run.folder / "data" / "expression_with_guides.h5ad").obs
    several = calls.index[calls["is_multi_infected"]]
    assert len(several) > 50
    assert joined.loc[several, "perturbation"].isna().all()
    filtered = anndata.read_h5ad(run.folder / "data" / "crispyx_filtered.h5ad").obs
    assert not filtered.index.isin(several).any()
    none = int(calls["is_unassigned"].sum())
    one = len(calls) - len(several) - none
    page = " ".join((run.folder / "report.html").read_text(encoding="utf-8").split())
    assert f"{one:,} of {len(calls):,} cells" in page
    assert f"{len(several):,} with several guides and {none:,} without any were left out" in page
    table = pd.read_csv(run.folder / "tables" / "perturbations.csv").set_index("perturbation")
    assert table["n_cells"].to_dict() == {
        label: count
        for label, count in filtered["perturbation"].value_counts().items()
        if label != "non-targeting"
    }


def test_planted_knock_downs_lower_their_targets(run: Run) -> None:
    table = pd.read_csv(run.folder / "tables" / "perturbations.csv")
    assert (table["target_gene"] == table["perturbation"]).all()
    # All six are knocked down, one so little, in 59 cells, that this screen cannot show it.
    lowered = (table["target_log2_fold_change"] < 0) & (table["target_p_value_adjusted"] <= 0.05)
    assert lowered.sum() >= 5
    assert "The simulation knows the truth" in run.result.stdout


def test_demo_runs_again_in_its_folder_and_leaves_other_files_alone(run: Run, small: None) -> None:
    before = {name: (run.folder / name).read_bytes() for name in FILES if name.endswith("csv")}
    report = (run.folder / "report.html").read_bytes()
    mine = run.folder / "tables" / "mine.csv"
    mine.write_text("precious")
    again = simulated(run.folder, "--threads", 1)
    assert again.exit_code == 0, again.output
    assert mine.read_text() == "precious"
    mine.unlink()
    assert {name: (run.folder / name).read_bytes() for name in before} == before
    assert (run.folder / "report.html").read_bytes() == report


def test_report_shows_the_fit_of_every_guide(run: Run) -> None:
    calls = anndata.read_h5ad(run.folder / "data" / "guide_calls.h5ad")
    fits = pd.read_csv(run.folder / "tables" / "guide_fits.csv").set_index("guide_id")
    assert fits.index.tolist() == calls.var_names.tolist()
    assert fits["status"].tolist() == calls.var["status"].tolist()
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    table = re.search(r'<table id="table-guide-fits".*?</table>', page, flags=re.DOTALL)
    assert table is not None
    named = re.findall(r'<th scope="row"[^>]*>(.*?)</th>', table.group())
    assert named == calls.var_names.tolist()
    assert str(calls.uns["crispyx_guides"]["model"]) == "poisson_gauss"
    for figure in ("UMIs of the called guides", "Agreement of the calls", "background"):
        assert figure in page


def test_demo_refuses_to_replace_a_file_of_someone_else(tmp_path: Path, small: None) -> None:
    stranger = tmp_path / "report.html"
    stranger.write_text("precious")
    refused = simulated(tmp_path)
    assert refused.exit_code == 1
    assert "was not made by the demo" in refused.stderr
    assert "--force" in refused.stderr
    assert stranger.read_text() == "precious"


@pytest.mark.slow
def test_demo_replaces_a_file_of_someone_else_when_told_to(tmp_path: Path, small: None) -> None:
    stranger = tmp_path / "report.html"
    stranger.write_text("precious")
    assert simulated(tmp_path, "--force").exit_code == 0
    assert stranger.read_text() != "precious"


def test_files_of_an_earlier_run_that_are_not_made_again_go(tmp_path: Path) -> None:
    first = OutputFolder(tmp_path, force=False)
    for name in ("plots/old/a.png", "plots/b.png"):
        first.path(name).write_text("x")
    first.finish()
    (tmp_path / "plots" / "mine.png").write_text("x")
    second = OutputFolder(tmp_path, force=False)
    second.path("plots/b.png").write_text("y")
    second.finish()
    assert files(tmp_path) == {"plots/b.png", "plots/mine.png", MANIFEST}
    assert not (tmp_path / "plots" / "old").exists()


def test_run_that_broke_off_can_be_repeated(tmp_path: Path) -> None:
    broken = OutputFolder(tmp_path, force=False)
    broken.path("report.html").write_text("half")
    OutputFolder(tmp_path, force=False).path("report.html")


def test_list_of_files_reaches_nothing_outside_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    folder = tmp_path / "demo"
    folder.mkdir()
    lists = ["../outside.txt", str(outside), "", ".", 3], "../outside.txt", {"a": 1}, None
    for listed in lists:
        (folder / MANIFEST).write_text(json.dumps({"files": listed}))
        OutputFolder(folder, force=False).finish()
        assert outside.read_text() == "precious"
    (folder / MANIFEST).write_text("not json")
    (folder / "report.html").write_text("precious")
    with pytest.raises(OutputExistsError, match="was not made by the demo"):
        OutputFolder(folder, force=False).path("report.html")


def no_data(**options: Any) -> None:
    raise MissingFileError("the server\n  cannot be reached")


def test_demo_falls_back_on_simulated_data_and_says_why(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "schraivogel", no_data)
    done = call("--output", tmp_path)
    assert done.exit_code == 0, done.output
    reason = "because the real screen cannot be had here: the server cannot be reached"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (done.stdout, page):
        assert reason in " ".join(text.split())
    assert "No cell on this page was measured" in page


def test_reason_for_simulated_data_is_short() -> None:
    error = MissingFileError(
        "data set 'schraivogel': CRISPYX_DATA_DIR is not set (it may contain a and b), and cannot "
        "download https://example.org/a/b.h5ad: the server cannot be reached: no route. Try again "
        "later, or fetch the file by other means"
    )
    assert screen.in_short(error) == (
        "CRISPYX_DATA_DIR is not set, and cannot download example.org: the server cannot be "
        "reached: no route"
    )


def test_real_data_asked_for_and_not_there_is_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "schraivogel", no_data)
    done = call("--output", tmp_path / "out", "--data", "schraivogel")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "crispyx: error: the server cannot be reached"
    assert "Traceback" not in done.stderr


def test_folder_that_cannot_be_made_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    done = simulated(tmp_path / "file" / "demo")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be made" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--threads", 0), ("--data", "other"), ("--nonsense",), ("extra",)]
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[Any, ...]) -> None:
    assert call(*arguments).exit_code == 2


def test_command_knows_its_version() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert done.exit_code == 0
    assert cx.__version__ in done.output


def test_threads_are_asked_for_in_the_demo_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "schraivogel", no_data)
    before = cx.settings.n_threads
    call("--output", tmp_path, "--data", "schraivogel", "--threads", 3)
    assert cx.settings.n_threads == before


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("MYC-A", "MYC-A"),
        ("a/b", "a_b"),
        ("../../x", "x"),
        ("chr1:5-9", "chr1_5-9"),
        ("//", "unnamed"),
    ],
)
def test_labels_become_file_names_without_folders(label: str, name: str) -> None:
    assert file_name(label) == name


def test_limits_follow_the_size_of_the_panel() -> None:
    assert thresholds_for(72).min_genes == 18
    assert thresholds_for(20_000).min_genes == 100


def test_commands_for_own_data_run_as_they_stand(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = run.folder / "data" / "simulated"
    guides = anndata.read_h5ad(given / "guides.h5ad")
    guides = guides[:, guides.var_names.str.endswith("_g1")].copy()
    target = [name for name in guides.var_names if not name.startswith("non-targeting")]
    names = {target[0]: "MYC_guide1", target[1]: "MYC_guide2", "non-targeting_g1": "NT_guide1"}
    guides = guides[:, list(names)].copy()
    guides.var_names = list(names.values())
    guides.write_h5ad(tmp_path / "guide_counts.h5ad")
    expression = anndata.read_h5ad(given / "expression.h5ad")
    keep = np.asarray(guides.X.sum(axis=1)).ravel() >= 5
    expression[keep].copy().write_h5ad(tmp_path / "expression.h5ad")
    monkeypatch.chdir(tmp_path)
    lowered = OWN_DATA.replace('control_label="non-targeting")\nlogs', LOW_LIMITS)
    assert lowered != OWN_DATA
    with pytest.warns(CrispyxWarning, match="have no label"):
        exec(compile(lowered, "own_data", "exec"), {})
    assert (tmp_path / "volcano_MYC.png").stat().st_size > 0


LOW_LIMITS = (
    'control_label="non-targeting", min_genes=5, min_cells_per_gene=5, '
    "min_cells_per_perturbation=5)\nlogs"
)


def test_real_screen_gives_the_known_answers_in_time(data_dir: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    # The expression file holds cells with one guide of 5 UMIs; the mixture sees none or two there.
    with pytest.warns(CrispyxWarning, match="67 of 19060 cells have no label"):
        outcome = run_demo(DemoOptions(tmp_path / "demo", "schraivogel"))
    assert time.perf_counter() - start < 60
    analysis = outcome.analysis
    counts = analysis.guide_counts
    assert (counts.none, counts.one, counts.several) == (726, 19061, 2190)
    assert analysis.joined.n_one_guide == 18993
    found = {one.perturbation: one.target for one in analysis.perturbations}
    assert len(found) == 26
    for name in ("DSCC1", "STK3"):
        target = found[name]
        assert target is not None
        assert target.rank == 1
        assert target.logfoldchange < -2
        assert target.pvalue_adj < 1e-30
    enhancers = [found[f"HS2-{guide}"] for guide in "ABCD"]
    assert [target and (target.gene, target.rank) for target in enhancers] == [("HBE1", 1)] * 4
    assert (analysis.composition.gene, round(analysis.composition.share, 2)) == ("HBE1", 0.44)
    page = " ".join((outcome.folder / "report.html").read_text(encoding="utf-8").split())
    assert "Real data: the screen of Schraivogel et al. (2020)" in page
    assert "HBE1 alone makes 44.4" in page
