"""``crispyx guides`` does what ``cx.gd`` does, says what went wrong, and leaves no halves."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import matplotlib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from click.testing import CliRunner, Result

import crispyx as cx
from crispyx.cli import main
from crispyx.cli.guides import assign as assign_module
from crispyx.cli.guides import compare as compare_module
from crispyx.cli.guides import decide as decide_module
from crispyx.cli.guides import score as score_module
from crispyx.cli.guides.parameters import PARAMETERS

matplotlib.use("agg")
N_CELLS, N_GUIDES = 240, 4


def screen(unseen: bool = False) -> anndata.AnnData:
    """Return cells that carry guide i % 4 with some 40 UMIs, above a little background."""
    rng = np.random.default_rng(7)
    counts = rng.poisson(0.2, (N_CELLS, N_GUIDES))
    counts[np.arange(N_CELLS), np.arange(N_CELLS) % N_GUIDES] += 1 + rng.poisson(40, N_CELLS)
    counts[::10, 0] += 30
    if unseen:
        counts[:, 3] = 0
    return anndata.AnnData(
        sp.csr_matrix(counts.astype(np.uint32)),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(N_CELLS)]),
        var=pd.DataFrame(index=[f"g{j}" for j in range(N_GUIDES)]),
    )


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    path = tmp_path / "counts.h5ad"
    screen().write_h5ad(path)
    return path


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["guides", *map(str, arguments)])


def succeed(*arguments: Any) -> Result:
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pandas()
    if path.suffix == ".arrow":
        return pa.ipc.open_file(path).read_all().to_pandas()
    return pd.read_csv(path, sep="\t" if ".tsv" in path.name else ",")


PYTHONS = {
    "assign": (cx.gd.assign, assign_module.PARAMETERS, {"path", "model", "n_jobs", "executor"}),
    "score": (cx.gd.score, score_module.PARAMETERS, {"path", "model", "n_jobs", "executor"}),
    "decide": (cx.gd.decide, decide_module.PARAMETERS, {"scores"}),
    "compare": (cx.gd.compare, compare_module.PARAMETERS, {"path", "models", "n_jobs"}),
}


@pytest.mark.parametrize("command", PYTHONS)
def test_options_of_a_command_are_the_keywords_of_its_function(command: str) -> None:
    function, names, own = PYTHONS[command]
    assert set(names) == set(inspect.signature(function).parameters) - own
    tool = main.get_command(None, "guides").commands[command]
    offered = {option.name: option for option in tool.params}
    required = {"compare": ["-m", "umi"]}.get(command, ["-o", "x.csv"])
    left_out = tool.make_context(command, ["x", *required]).params
    assert all(left_out[name] is None for name in names)
    assert all(f"--{name.replace('_', '-')}" in offered[name].opts for name in names)


def test_defaults_shown_are_those_of_python() -> None:
    model = {o.name: o for o in main.get_command(None, "guides").commands["assign"].params}["model"]
    assert model.default == inspect.signature(cx.gd.assign).parameters["model"].default
    least = inspect.signature(cx.gd.decide).parameters["min_confidence"].default
    assert decide_module.DEFAULTS["min_confidence"] == str(least)
    for command in ("assign", "score"):
        function, _, _ = PYTHONS[command]
        kind = inspect.signature(function).parameters["feature_type"].default
        assert kind == assign_module.DEFAULTS["feature_type"]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".arrow"])
def test_table_of_assign_holds_the_calls_of_python(counts: Path, suffix: str) -> None:
    out = counts.with_name(f"calls{suffix}")
    done = succeed("assign", counts, "-o", out)
    assert done.stdout == ""
    assert "240 cells x 4 guides" in done.stderr
    obs = cx.gd.assign(counts).obs
    table = read(out)
    assert table["cell_barcode"].tolist() == obs.index.tolist()
    assert table["guide_id"].tolist() == obs["guide_id"].tolist()
    assert table["umi_count"].tolist() == obs["umi_count"].tolist()
    assert table["is_multi_infected"].tolist() == obs["is_multi_infected"].tolist()


def test_h5ad_of_assign_is_the_anndata_of_python(counts: Path, tmp_path: Path) -> None:
    succeed("assign", counts, "-o", tmp_path / "c.h5ad", "-m", "gauss", "--min-confidence", 0.9)
    stored = anndata.read_h5ad(tmp_path / "c.h5ad")
    calls = cx.gd.assign(counts, "gauss", min_confidence=0.9)
    assert (stored.layers["assigned"] != calls.layers["assigned"]).nnz == 0
    assert stored.uns["crispyx_guides"]["model"] == "gauss"
    assert stored.uns["crispyx_guides"]["model_params"]["min_confidence"] == 0.9


def test_aliases_and_params_say_the_same(counts: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    succeed("assign", counts, "-o", first, "-m", "umi", "--umi-threshold", 3, "-j", 1)
    succeed(
        *("assign", "--counts", counts, "--output", second, "--model", "umi"),
        *("--params", "umi_threshold=3", "--threads", 2),
    )
    assert first.read_bytes() == second.read_bytes()


def test_long_table_has_one_row_a_call(counts: Path, tmp_path: Path) -> None:
    succeed("assign", counts, "-o", tmp_path / "long.csv", "--long")
    calls = cx.gd.assign(counts)
    rows, columns = calls.layers["assigned"].nonzero()
    table = read(tmp_path / "long.csv")
    found = set(zip(table["cell_barcode"], table["guide_id"], strict=True))
    assert found == set(zip(calls.obs_names[rows], calls.var_names[columns], strict=True))
    assert len(table) == len(rows) > N_CELLS


def test_cell_rangers_table_is_written_under_its_name(counts: Path, tmp_path: Path) -> None:
    out = tmp_path / "protospacer_calls_per_cell.csv"
    succeed("assign", counts, "-o", out)
    assert list(read(out).columns) == ["cell_barcode", "num_features", "feature_call", "num_umis"]


def test_smallest_count_of_a_call_can_be_raised(counts: Path, tmp_path: Path) -> None:
    succeed("assign", counts, "-o", tmp_path / "c.h5ad", "--min-umi", 41)
    calls = anndata.read_h5ad(tmp_path / "c.h5ad")
    every = cx.gd.assign(counts)
    kept = every.layers["assigned"].multiply(every.X >= 41)
    assert 0 < kept.nnz < every.layers["assigned"].nnz
    assert (calls.layers["assigned"] != kept).nnz == 0


def test_fits_are_written_beside_the_calls(counts: Path, tmp_path: Path) -> None:
    fits = tmp_path / "fits.tsv"
    succeed("assign", counts, "-o", tmp_path / "c.csv", "--fits", fits)
    var = cx.gd.assign(counts).var
    table = read(fits).set_index("guide_id")
    assert table.index.tolist() == var.index.tolist()
    assert table["status"].tolist() == ["ok"] * N_GUIDES
    np.testing.assert_allclose(table["threshold"], var["threshold"], rtol=0)


def test_constructs_are_joined_to_the_calls(counts: Path, tmp_path: Path) -> None:
    table = tmp_path / "constructs.tsv"
    names = [f"g{j}" for j in range(N_GUIDES)]
    pairs = pd.DataFrame({"guide": names, "construct": ["a", "a", "b", "b"]})
    pairs.assign(target=["A", "A", "B", "B"]).to_csv(table, sep="\t", index=False)
    succeed("assign", counts, "-o", tmp_path / "c.csv", "--constructs", table)
    wanted = cx.gd.constructs(cx.gd.assign(counts), table).obs
    found = read(tmp_path / "c.csv")
    for name in ("construct", "target", "guide_class"):
        assert found[name].fillna("").tolist() == wanted[name].astype(object).fillna("").tolist()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_decide_calls_from_stored_scores(counts: Path, tmp_path: Path, suffix: str) -> None:
    scores, out = tmp_path / f"s{suffix}", tmp_path / "d.parquet"
    succeed("score", counts, "-o", scores, "-m", "neg_binomial", "--fits", tmp_path / "f.csv")
    succeed("decide", scores, "-o", out, "--min-confidence", 0.99, "--min-umi", 3)
    fitted = cx.gd.score(counts, "neg_binomial")
    wanted = cx.gd.decide(fitted, 0.99, min_umi=3).to_pandas()
    pd.testing.assert_frame_equal(read(out), wanted, check_dtype=False)
    assert read(tmp_path / "f.csv")["guide_id"].tolist() == fitted.guides.tolist()


def test_compare_prints_or_writes_the_agreement(counts: Path, tmp_path: Path) -> None:
    models = ("-m", "poisson_gauss,umi", "-m", "max")
    found = cx.gd.compare(counts, models=["poisson_gauss", "umi", "max"])
    printed = succeed("compare", counts, *models).stdout
    assert [line.split()[0] for line in printed.splitlines()[1:]] == found.models
    table, consensus, figure = (tmp_path / name for name in ("a.csv", "c.h5ad", "p.png"))
    succeed(
        *("compare", counts, *models, "-o", table),
        *("--consensus", consensus, "--plot", figure),
    )
    written = read(table).set_index("model")
    np.testing.assert_allclose(written[found.models], found.agreement, rtol=1e-15)
    assert written["n_calls"].tolist() == found.n_calls.tolist()
    stored = anndata.read_h5ad(consensus)
    assert (stored.layers["assigned"] != found.consensus.layers["assigned"]).nnz == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    facts = json.loads(succeed("compare", counts, *models, "--json").stdout)
    assert facts["agreement"]["umi"]["umi"] == 1.0


def test_models_are_all_listed_with_their_parameters() -> None:
    listed = json.loads(succeed("models", "--json").stdout)
    assert [row["model"] for row in listed][4] == "poisson_gauss"
    assert {row["model"]: row["parameters"].get("min_confidence") for row in listed}["beta2"] == 0.5
    text = succeed("models").stdout
    assert all(row["model"] in text and row["calls"] in text for row in listed)


def test_inspect_tells_counts_calls_and_scores_apart(counts: Path, tmp_path: Path) -> None:
    calls, scores = tmp_path / "c.h5ad", tmp_path / "s.arrow"
    succeed("assign", counts, "-o", calls)
    succeed("score", counts, "-o", scores)
    facts = {p: json.loads(succeed("inspect", p, "--json").stdout) for p in (counts, calls, scores)}
    assert [fact["holds"] for fact in facts.values()] == ["guide counts", "calls", "scores"]
    assert all((f["n_cells"], f["n_guides"]) == (N_CELLS, N_GUIDES) for f in facts.values())
    assert facts[counts]["total_umis"] == screen().X.sum()
    assert facts[scores]["guides_by_status"] == {"ok": 4}
    assert "median guide umis per cell" in succeed("inspect", counts).stdout
    for path, more in ((calls, ()), (scores, ("--guide", "g1"))):
        figure = tmp_path / f"{path.stem}.png"
        succeed("inspect", path, "--plot", figure, *more)
        assert figure.read_bytes().startswith(b"\x89PNG")


def test_checksum_says_which_counts_the_scores_are_of(counts: Path, tmp_path: Path) -> None:
    scores, twin, other = (tmp_path / name for name in ("s.parquet", "twin.h5ad", "other.h5ad"))
    succeed("score", counts, "-o", scores)
    adata = screen()
    adata.X = adata.X.tocsc().astype(np.float32)
    adata.write_h5ad(twin)
    adata.X[5, 1] += 1
    adata.write_h5ad(other)
    sums = [
        json.loads(succeed("inspect", path, "--json").stdout)["counts_sha256"]
        for path in (counts, twin, scores, other)
    ]
    assert sums[0] == sums[1] == sums[2] != sums[3]


def test_json_holds_facts_and_warnings_and_quiet_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "counts.h5ad"
    screen(unseen=True).write_h5ad(path)
    done = succeed("assign", path, "-o", tmp_path / "a.csv", "--json")
    facts = json.loads(done.stdout)
    assert (facts["model"], facts["n_cells"]) == ("poisson_gauss", N_CELLS)
    assert facts["guides_by_status"] == {"ok": 3, "no_counts": 1}
    assert len(facts["warnings"]) == 1
    assert done.stderr == ""
    assert succeed("assign", path, "-o", tmp_path / "b.csv", "--quiet").output == ""
    noted = succeed("assign", path, "-o", tmp_path / "c.csv")
    assert noted.stderr.startswith("note: 1 of 4 guides")


def test_unfitted_guides_end_with_exit_code_3_when_asked_strictly(tmp_path: Path) -> None:
    path, out = tmp_path / "counts.h5ad", tmp_path / "a.csv"
    screen(unseen=True).write_h5ad(path)
    done = call("assign", path, "-o", out, "--strict")
    assert done.exit_code == 3
    assert "1 of 4 guides have no reliable fit" in done.stderr
    assert len(read(out)) == N_CELLS
    assert call("score", path, "-o", tmp_path / "s.arrow", "--strict").exit_code == 3
    screen().write_h5ad(path)
    assert call("assign", path, "-o", out, "--strict", "--force").exit_code == 0


def test_existing_output_is_replaced_only_by_force(counts: Path, tmp_path: Path) -> None:
    out = tmp_path / "calls.csv"
    out.write_text("precious")
    refused = call("assign", counts, "-o", out)
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert out.read_text() == "precious"
    succeed("assign", counts, "-o", out, "--force")
    assert len(read(out)) == N_CELLS


def spoil_negative(adata: anndata.AnnData) -> None:
    adata.X = adata.X.astype(np.float64)
    adata.X.data[0] = -1


def spoil_barcodes(adata: anndata.AnnData) -> None:
    adata.obs_names = ["same"] * adata.n_obs


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(spoil_negative, "'cell0'"), (spoil_barcodes, "'same' stands in rows 0 and 1")],
)
@pytest.mark.parametrize("command", ["assign", "score"])
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_bad_counts_end_in_one_line_and_leave_no_file(
    tmp_path: Path, spoil: Callable[[anndata.AnnData], None], message: str, command: str
) -> None:
    adata = screen()
    spoil(adata)
    path = tmp_path / "counts.h5ad"
    adata.write_h5ad(path)
    fits = tmp_path / "fits.csv"
    done = call(command, path, "-o", tmp_path / "out.arrow", "--fits", fits)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("crispyx: error: ")
    assert message in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["counts.h5ad"]


DATA_ERRORS = [
    (("assign", "absent.h5ad", "-o", "x.csv"), "'absent.h5ad' does not exist"),
    (("score", "absent.h5ad", "-o", "x.arrow"), "'absent.h5ad' does not exist"),
    (("compare", "absent.h5ad", "-m", "umi,max"), "'absent.h5ad' does not exist"),
    (("decide", "absent.arrow", "-o", "x.csv"), "absent.arrow: no such file"),
    (("inspect", "absent.h5ad"), "'absent.h5ad' does not exist"),
    (("inspect", "absent.arrow"), "absent.arrow: no such file"),
    (("decide", "text.arrow", "-o", "x.csv"), "not a complete arrow file"),
    (("decide", "text.csv", "-o", "x.csv"), "the suffix says the format"),
    (("assign", "text.csv", "-o", "x.csv"), "text.csv"),
    (("assign", "counts.h5ad", "-o", "nowhere/x.csv"), "'nowhere' is not a folder"),
    (("assign", "counts.h5ad", "-o", "counts.h5ad", "--force"), "is the input itself"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--layer", "raw"), "raw"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--batch-key", "lane"), "lane"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--constructs", "absent.tsv"), "absent.tsv"),
    (("score", "counts.h5ad", "-o", "text.arrow"), "exists"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--fits", "text.csv"), "exists"),
    (("compare", "counts.h5ad", "-m", "umi,max", "-o", "text.csv"), "exists"),
]
USAGE_ERRORS = [
    (("assign",), "Missing"),
    (("assign", "-o", "x.csv"), "Missing argument 'COUNTS'"),
    (("assign", "counts.h5ad"), "--output"),
    (("assign", "counts.h5ad", "--counts", "counts.h5ad", "-o", "x.csv"), "given twice"),
    (("assign", "counts.h5ad", "-o", "x.docx"), "the suffix says the format"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--fits", "f.h5ad"), "the suffix says the format"),
    (("assign", "counts.h5ad", "-o", "x.csv", "-m", "poison"), "'poisson_gauss'"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--min-confidence", "2"), "2"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--min-confidence", "nan"), "nan"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--quantile", "0.2"), "does not use quantile"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--exposure", "mine", "-m", "poisson"), "crispat"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--params", "quantil=1"), "one of"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--params", "min_umi=some"), "some"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--params", "min_umi=2", "--min-umi", "2"), "twice"),
    (("assign", "counts.h5ad", "-o", "x.csv", "-m", "umi", "--min-umi", "2"), "min_umi"),
    (("assign", "counts.h5ad", "-o", "x.h5ad", "--long"), "--long"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--quiet", "--json"), "exclude"),
    (("assign", "counts.h5ad", "-o", "x.csv", "-m", "umi", "--strict"), "--strict"),
    (("assign", "counts.h5ad", "-o", "x.csv", "-j", "0"), "0"),
    (("score", "counts.h5ad", "-o", "x.arrow", "-m", "umi"), "no posteriors"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--fits", "./x.csv"), "two results would go to"),
    (("score", "counts.h5ad", "-o", "x.arrow", "--fits", "x.arrow"), "two results would go to"),
    (("compare", "counts.h5ad", "-o", "x.csv", "--consensus", "x.csv"), "two results would go to"),
    (("score", "counts.h5ad", "-o", "x.csv"), "the suffix says the format"),
    (("score", "counts.h5ad", "-o", "-"), "the suffix says the format"),
    (("decide", "s.arrow", "-o", "x.csv", "--margin", "-1"), "-1"),
    (("compare", "counts.h5ad", "-m", "umi"), "give two or more"),
    (("compare", "counts.h5ad", "-m", "umi,max,umi"), "each once"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--control-target", "NT"), "--constructs"),
    (("compare", "counts.h5ad", "-m", "umi,poison"), "'poisson_gauss'"),
    (("inspect", "counts.h5ad", "--plot", "x.png"), "these are counts"),
    (("inspect", "counts.h5ad", "--guide", "g1"), "--plot"),
    (("nonsense",), "nonsense"),
    (("assign", "counts.h5ad", "-o", "x.csv", "--nonsense"), "nonsense"),
]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [(*case, 1) for case in DATA_ERRORS] + [(*case, 2) for case in USAGE_ERRORS],
)
def test_mistake_is_told_and_nothing_is_written(
    counts: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
    code: int,
) -> None:
    monkeypatch.chdir(counts.parent)
    for name in ("text.arrow", "text.csv"):
        Path(name).write_text("some text")
    before = {path: path.read_bytes() for path in Path().rglob("*")}
    done = call(*arguments)
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in Path().rglob("*")} == before


OUTPUTS = {
    "assign": (("-o", "a.csv", "--fits", "f.csv"), ("write_file", "write_calls")),
    "score": (("-o", "s.arrow", "--fits", "f.csv"), ("write_file", "guide_table")),
    "compare": (
        ("-m", "umi,max", "-o", "a.csv", "--plot", "p.png", "--consensus", "c.csv"),
        ("write_file", "write_calls"),
    ),
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_failing_output_leaves_none_of_the_others(
    counts: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    arguments, steps = OUTPUTS[command]
    monkeypatch.chdir(counts.parent)
    for name in steps:
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[f"crispyx.cli.guides.{command}"], name, full)
            done = call(command, counts, *arguments)
        assert done.exit_code == 1
        assert "No space left" in done.stderr
        assert [path.name for path in Path().iterdir()] == ["counts.h5ad"]


def shell(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
    program = "from crispyx.cli import main; main()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, **options)


def test_arrow_stream_on_stdout_is_all_that_is_there(counts: Path, tmp_path: Path) -> None:
    done = shell("guides", "assign", counts, "-o", "-", "--json")
    assert done.returncode == 0, done.stderr
    table = pa.ipc.open_stream(io.BytesIO(done.stdout)).read_all().to_pandas()
    obs = cx.gd.assign(counts).obs
    assert table["guide_id"].tolist() == obs["guide_id"].tolist()
    assert json.loads(done.stderr)["n_cells"] == N_CELLS
    assert [path.name for path in tmp_path.iterdir()] == ["counts.h5ad"]


def test_bad_input_leaves_standard_output_empty(tmp_path: Path) -> None:
    done = shell("guides", "assign", tmp_path / "absent.h5ad", "-o", "-")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1


def test_reader_that_stops_early_causes_no_traceback(counts: Path) -> None:
    program = "from crispyx.cli import main; main()"
    command = [sys.executable, "-c", program, "guides", "assign", str(counts), "-o", "-", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert b"Traceback" not in said


def test_help_starts_without_the_analysis() -> None:
    program = (
        "import sys; from crispyx.cli import main; main(['--help'], standalone_mode=False); "
        "print(sorted({'numpy', 'h5py', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"guides" in done.stdout
    assert done.stdout.splitlines()[-1] == b"[]"


def test_every_parameter_of_the_table_is_an_option_somewhere() -> None:
    assert set(PARAMETERS) == {name for _, names, _ in PYTHONS.values() for name in names}
