"""The harness that compares crispyx with other tools, without any of them and without a network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import anndata
import numpy as np
import pytest
from layouts import COLUMN, count_screen, log_screen, write_h5ad

from validation.benchmarks import agreement, generated, session
from validation.benchmarks.cases import MODELS, OPERATIONS, WITHOUT_PROCESS, Case, cases
from validation.benchmarks.comparison import Comparison
from validation.benchmarks.inputs import warm_up
from validation.benchmarks.job import OURS, Job
from validation.benchmarks.page import page
from validation.benchmarks.projection import DISK_RATE, Cost, projection_table
from validation.benchmarks.runs import LAUNCHER, Run, collect, late_imports, perform
from validation.benchmarks.screens import Screen
from validation.benchmarks.session import Session
from validation.benchmarks.store import Store
from validation.benchmarks.tables import (
    fit_table,
    markdown_table,
    number,
    published_table,
    time_table,
)
from validation.benchmarks.tools import load_adapter
from validation.cache import new_folder
from validation.command import main
from validation.peers.catalog import Peer, load_peers, parse_peers
from validation.peers.environments import environment

MIB = 2**20


def runs(*seconds: float) -> tuple[Run, ...]:
    return tuple(Run("ok", s, s + 1, 2 * s, round(s * 100 * MIB), 0.5, "1.0") for s in seconds)


def compared(ours: tuple[Run, ...], theirs: tuple[Run, ...], peer: str = "scanpy") -> Comparison:
    return Comparison("wilcoxon, log CSR", "wilcoxon", "S", peer, 2, ours, theirs)


def test_ratio_is_the_median_over_turns_of_theirs_by_ours() -> None:
    found = compared(runs(1, 2, 4), runs(10, 10, 16))
    assert found.ratio("operation") == 5  # of 10, 5 and 4; the quotient of medians would be 5 too
    assert compared(runs(1, 3, 4), runs(9, 6, 4)).ratio("operation") == 2  # of medians: 2/3 less
    assert found.middle(OURS, "operation") == 2
    assert found.state == "ok"


def test_a_run_without_a_result_counts_nowhere_and_is_named() -> None:
    found = compared(runs(1), (Run("failed", error="no memory"),))
    assert found.ratio("operation") is None
    assert found.middle("scanpy", "operation") is None
    assert found.middle(OURS, "operation") == 1
    assert found.state == "scanpy: failed"
    assert found.is_failure
    late = compared(runs(1), (Run("over time", error="over 60 s"),))
    assert late.state == "scanpy: over 60 s"
    assert not late.is_failure


def test_job_survives_a_command_line() -> None:
    job = Job(OURS, "qc", "a b.h5ad", "/out", 2, {"thresholds": {"min_genes": 3}}, ["pandas"])
    assert Job.decode(job.encode()) == job


def test_comparisons_survive_the_store(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "folder" / "benchmarks.json")
    store.begin("python -m validation bench qc", {"memory": "16 GiB"})
    found = replace(compared(runs(1, 2), runs(3, 4)), agreement={"max dp": 1e-9}, key="a")
    store.keep(found)
    store.keep(replace(found, key="b"))
    again = Store.open(store.path)
    assert again == store
    assert [kept.key for kept in again.of("wilcoxon")] == ["b"]
    assert Store.open(store.path, fresh=True).comparisons == {}


def test_every_tool_that_is_compared_with_is_pinned_and_has_its_adapter() -> None:
    peers = load_peers()
    assert {"crispyx", "illico", "pdex", "scanpy", "crispat", "kaichi", "pydeseq2"} <= set(peers)
    for case in cases("all", ("S", "M", "L")):
        assert case.operation in load_adapter(OURS).ACTIONS
        if case.peer not in WITHOUT_PROCESS:
            assert case.peer in peers
            assert case.operation in load_adapter(case.peer).ACTIONS


def test_every_operation_and_model_is_compared() -> None:
    found = list(cases("all", ("S",)))
    assert {case.operation for case in found} == set(OPERATIONS)
    assert {case.name for case in found if case.operation == "guides"} == set(MODELS)
    assert len({case.identity for case in found}) == len(found)


def test_a_peer_without_a_pin_is_refused() -> None:
    with pytest.raises(ValueError, match="'illico' is not pinned"):
        parse_peers({"illico": {"requirements": ["illico>=0.6"]}})


def test_a_peer_that_cannot_be_installed_is_reported_in_the_installers_words(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    absent = Peer("no-such-tool", ("no-such-tool==1",))
    found = environment(absent, tmp_path)
    assert found.python is None
    assert "no-such-tool" in found.error
    assert list((tmp_path / "peers").iterdir()) == []  # the next call tries again


def test_differences_of_tests_are_found_where_they_are() -> None:
    labels = {"perturbations": np.array(["a", "b"]), "genes": np.array(["g", "h"])}
    ours = labels | {"p": np.array([[0.1, 0.2], [np.nan, 0.4]]), "z": np.ones((2, 2))}
    theirs = labels | {"p": np.array([[0.1, 0.25], [0.3, 0.4]])}
    found = agreement.of_tests(ours, theirs)
    assert found == {"max dp": pytest.approx(0.05), "NaN p on one side": 0.25}
    assert agreement.of_tests(ours, theirs | {"genes": labels["genes"][::-1]}) == {"same genes": 0}


def test_called_pairs_are_compared_as_sets() -> None:
    ours = {"cells": np.array([0, 1, 2]), "guides": np.array([5, 5, 6])}
    theirs = {"cells": np.array([2, 1, 7, 0]), "guides": np.array([6, 5, 5, 6])}
    assert agreement.of_calls(ours, theirs) == {"Jaccard": 2 / 5}
    found = agreement.of_truth(ours, theirs, OURS)
    assert found == {"precision ours": 2 / 3, "recall ours": 2 / 4}


def test_differences_of_matrices_are_found() -> None:
    ours = {"shape": np.array([2, 3]), "n_stored": np.array(2), "indices": np.array([0, 1])}
    ours["values"] = np.array([1.0, 2.0])
    found = agreement.of_matrices(ours, ours | {"values": np.array([1.0, 2.5])})
    assert found == {"same shape": 1, "same positions": 1, "max dx": 0.5}
    assert agreement.of_matrices(ours, ours | {"n_stored": np.array(3)})["d stored"] == -1


def test_numbers_have_three_digits() -> None:
    assert [number(x) for x in (None, 0, 0.12345, 1234.5, 5e-15, 123456789)] == [
        "-",
        "0",
        "0.123",
        "1,230",
        "5.0e-15",
        "1.2e+08",
    ]


def test_rows_have_as_many_cells_as_the_header() -> None:
    failed = compared(runs(1), (Run("not installed", error="no | wheel"),), "illico")
    found = replace(compared(runs(1), runs(9)), agreement={"max dp": 1e-12})
    lines = time_table([found, failed]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "9x" in lines[2]
    assert "illico: not installed" in lines[3]
    assert markdown_table(("a", "ratio"), [("x", "1")]).splitlines()[1] == "| --- | ---: |"


def test_a_fit_is_what_a_model_takes_beyond_the_rule_without_one() -> None:
    rule = Comparison("umi", "guides", "s", "kaichi", 1, runs(1), runs(2))
    model = Comparison("poisson", "guides", "s", "kaichi", 1, runs(3), runs(12))
    assert fit_table([rule, model], "kaichi").splitlines()[2:] == [
        "| poisson | s | 1 | 2 / 10 | 5x |"
    ]


def test_the_published_rule_and_the_defaults_stand_in_columns_of_their_own() -> None:
    def found(peer: str, value: float) -> Comparison:
        agreed = {"Jaccard ours and published": value, f"Jaccard {peer} and published": 0.25}
        return Comparison("max", "guides", "schraivogel", peer, 1, runs(1), (), agreed)

    rows = [found("kaichi", 0.5), found("published", 1.0), found("crispat", 0.75)]
    (row,) = published_table(rows).splitlines()[2:]
    assert row == "| max | 1.00000 | 0.50000 | 0.25000 | 0.25000 |"
    assert published_table(rows[::-1]).splitlines()[2:] == [row]


def test_the_page_names_what_another_tool_does_better() -> None:
    store = Store(Path("unused"), {"memory": "16 GiB"}, ["python -m validation bench all"])
    for found in (compared(runs(1), runs(9)), compared(runs(4), runs(2), "illico")):
        store.comparisons[found.identity] = found
    size = Screen("S", {}, "perturbation", "control", 100, 10, 5, 500, 4000)
    text = page(store, {"S": size}, "benchmarks.svg")
    worse = text.partition("## Where another tool takes less")[2]
    assert "illico 1.0 takes 0.5 of ours" in worse
    assert "scanpy" not in worse
    assert "python -m validation bench all" in text
    assert "| wilcoxon, log CSR | S | 2.0e+06 | 8 |" in text  # ns: 1 s for 500 values
    assert "Provisional" not in text
    assert "Provisional" in page(replace(store, machine={"load before": "3.2"}), {}, "plot.svg")


def test_projection_takes_the_slower_of_reading_and_computing() -> None:
    computing = Cost("wilcoxon", "M", 100, nanoseconds=10, file_bytes=8)
    reading = Cost("normalize", "M", 100, nanoseconds=1, file_bytes=8)
    assert computing.seconds(1e9) == pytest.approx(10)
    assert reading.seconds(1e9) == pytest.approx(8e9 / DISK_RATE)
    smaller = replace(computing, data="S", n_stored=10, nanoseconds=99)
    first, second = projection_table([smaller, computing, reading]).splitlines()[2:]
    assert first.startswith("| wilcoxon | M | 0.547 min (computing; file 26.3 GB)")
    assert second.startswith("| normalize | M | 0.243 min (disk;")


def measured(tmp_path: Path, program: str, timeout: float = 60) -> dict:
    """Run a program as a session does and return its figures."""
    command = [sys.executable, "-I", "-S", str(LAUNCHER), str(tmp_path / "figures.json")]
    program_command = [str(timeout), sys.executable, "-I", "-S", "-c", program]
    subprocess.run([*command, *program_command], check=True, capture_output=True, timeout=60)
    return json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))


def test_memory_of_a_process_is_its_own(tmp_path: Path) -> None:
    held = np.ones(200 * MIB, dtype=np.uint8)  # of the process that starts the others
    small = measured(tmp_path, "pass")
    large = measured(tmp_path, "x = b'1' * (100 << 20)")
    assert held[-1] == 1
    assert small["peak_rss"] < 50 * MIB
    assert large["peak_rss"] - small["peak_rss"] > 90 * MIB
    assert (small["exit_code"], small["timed_out"]) == (0, False)


def test_a_process_over_its_time_is_killed_with_what_it_started(tmp_path: Path) -> None:
    child = "import time; time.sleep(600)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    # Were the child left alone, this would wait for it in vain: it holds the same output.
    found = measured(tmp_path, program, 0.5)
    assert found["timed_out"]
    assert found["exit_code"] == -signal.SIGKILL


def screen_job(tool: str, operation: str, folder: Path) -> Job:
    values, labels = count_screen() if operation == "pseudobulk" else log_screen()
    kept = [label is not None for label in labels]
    path = folder / "screen.h5ad"
    if not path.exists():
        write_h5ad(path, values[kept], [label for label in labels if label is not None])
    columns = {"perturbation_column": COLUMN, "control_label": "control"}
    return Job(tool, operation, str(path), str(folder / tool), 1, columns)


def test_two_tools_are_measured_and_compared_from_end_to_end(tmp_path: Path) -> None:
    results = {}
    for tool in (OURS, "scanpy"):
        job = screen_job(tool, "t-test", tmp_path)
        run = perform(job, Path(sys.executable), 120)
        assert run.status == "ok", run.error
        assert 0 < run.operation < run.wall
        assert run.peak_rss > 10 * MIB
        with np.load(collect(job, Path(sys.executable))) as arrays:
            results[tool] = dict(arrays)
    assert results[OURS]["p"].shape == (3, 13)
    found = agreement.of_tests(results[OURS], results["scanpy"])
    # scanpy's moments are float32.
    assert found["max dz"] < 1e-4
    assert found["max dp"] < 1e-5
    again = replace(job, tool=OURS, output=str(tmp_path / OURS))
    assert "pandas" in late_imports(again)


def test_an_operation_that_is_not_there_is_not_a_failure(tmp_path: Path, monkeypatch) -> None:
    adapter = import_module("validation.benchmarks.tools.crispyx")
    monkeypatch.setattr("crispyx.pb", object())
    with pytest.raises(adapter.NotBuiltError, match=r"no pb\.aggregate"):
        adapter.ACTIONS["pseudobulk"].prepare(screen_job(OURS, "pseudobulk", tmp_path))


def test_a_tool_that_fails_says_why(tmp_path: Path) -> None:
    job = replace(screen_job(OURS, "t-test", tmp_path), parameters={})
    run = perform(job, Path(sys.executable), 120)
    assert (run.status, run.error) == ("failed", "KeyError: 'perturbation_column'")


@pytest.fixture
def small_session(tmp_path: Path, monkeypatch) -> tuple[Session, list[str]]:
    """A session whose runs are made up, and the tools in the order they ran."""
    done: list[str] = []

    def made_up(job: Job, python: Path, timeout: float) -> Run:
        done.append(job.tool)
        return runs(1 if job.tool == OURS else 3)[0]

    def job_of(case: Case, tool: str, _: Path, outputs: Path, preload: tuple[str, ...] = ()) -> Job:
        return Job(tool, case.operation, __file__, str(outputs), 1, {"data": case.data}, preload)

    monkeypatch.setattr(session, "perform", made_up)
    monkeypatch.setattr(session, "job_of", job_of)
    monkeypatch.setattr(session, "late_imports", lambda job: ())
    monkeypatch.setattr(session, "outcome", lambda *_: {"max dp": 0.0})
    monkeypatch.setattr(
        session, "environment", lambda peer, _: session.Environment(peer, Path(sys.executable))
    )
    store = Store.open(tmp_path / "benchmarks.json")
    return Session(tmp_path, tmp_path, load_peers(), store, repeats=3), done


def test_turns_alternate_and_what_is_kept_is_not_run_again(small_session) -> None:
    running, done = small_session
    case = Case("t-test, log CSR", "t-test", "S", "log_csr", "scanpy", 2)
    running.run([case])
    first = [OURS, "scanpy"]
    assert done == [*first, *first, *first[::-1], *first]  # the first two warm up
    assert running.store.comparisons[case.identity].ratio("operation") == 3
    running.run([case])
    assert len(done) == 8
    running.repeats = 1
    running.run([case])
    assert len(done) == 10


def test_what_takes_another_tool_minutes_is_run_when_asked_for(small_session) -> None:
    running, done = small_session
    case = Case("wilcoxon, log CSR", "wilcoxon", "M", "log_csr", "pdex", 2, slow=True)
    running.run([case])
    assert done == [OURS, OURS]  # the first one warms up
    assert "--slow" in running.store.comparisons[case.identity].state
    running.slow = True
    running.run([case])
    assert running.store.comparisons[case.identity].complete


def test_a_screen_that_cannot_be_had_is_said_and_the_session_goes_on(
    small_session, monkeypatch
) -> None:
    def missing(*_: object) -> Job:
        raise FileNotFoundError("set CRISPYX_DATA_DIR")

    running, done = small_session
    monkeypatch.setattr(session, "job_of", missing)
    case = Case("t-test, log CSR", "t-test", "papalexi", "log_csr", "scanpy", 2)
    running.run([case])
    found = running.store.comparisons[case.identity]
    assert found.state == "set CRISPYX_DATA_DIR"
    assert found.is_failure
    assert done == []


def test_warm_ups_are_small() -> None:
    assert all(warm_up(case).data in {"tiny", "schraivogel-2"} for case in cases("all", ("S", "M")))


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "screens" / "S"
    with pytest.raises(IsADirectoryError), new_folder(target) as work:
        work.write_text("a folder is no file", encoding="utf-8")
    assert list(target.parent.iterdir()) == []
    with new_folder(target) as work:
        (work / "whole").touch()
    assert [path.name for path in target.iterdir()] == ["whole"]
    with new_folder(target) as work:  # another process was faster: its folder stays
        (work / "second").touch()
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert [path.name for path in target.parent.iterdir()] == ["S"]


def test_prepared_matrices_are_those_of_the_screen(tmp_path: Path) -> None:
    import scipy.sparse as sp

    from validation.benchmarks.screens import write_contiguous

    values, _ = log_screen()
    cells = anndata.AnnData(sp.csr_matrix(values))
    for layout in ("csr", "csc"):
        path = tmp_path / f"{layout}.h5ad"
        write_contiguous(path, sp.csr_matrix(values).asformat(layout), cells.obs, cells.var)
        found = anndata.read_h5ad(path).X
        assert found.format == layout
        np.testing.assert_array_equal(found.toarray(), values.astype(np.float32))


def test_an_unknown_operation_is_a_usage_error(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "umap"])
    assert stopped.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_every_command_says_what_it_does(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "fail when a kernel is more than 25 % slower than its baseline" in shown


def test_every_set_of_loops_of_this_processor_is_timed() -> None:
    from validation import kernel_paths

    block = kernel_paths.genes(0.01, logged=True)
    assert len(block.values) == block.run_ptr[-1, -1]
    np.testing.assert_array_equal(block.run_ptr[1:, 0], block.run_ptr[:-1, -1])
    assert kernel_paths.seconds(block, 0) > 0


def test_blocks_of_a_screen_that_is_nowhere_stored_take_time_and_memory_by_the_value() -> None:
    found = list(generated.measured(20_000, 0.1, 20_000, 1, 1))
    assert [one.name for one in found] == ["wilcoxon", "nb_glm: dispersions", "nb_glm: tests"]
    assert all(one.nanoseconds > 0 and one.n_values == 20_000 for one in found)


def test_generated_genes_are_the_same_however_they_are_read() -> None:
    genes = generated.GeneratedGenes(1_000, 0.3)
    (whole,) = genes.blocks(0, 6, max_values=10**6, max_major=6)
    parts = list(genes.blocks(0, 6, max_values=700, max_major=6))
    assert [part.stop - part.start for part in parts] == [2, 2, 2]
    np.testing.assert_array_equal(whole.values, np.concatenate([p.values for p in parts]))
    np.testing.assert_array_equal(whole.minor, np.concatenate([p.minor for p in parts]))
    for gene in range(6):
        cells = whole.minor[whole.ptr[gene] : whole.ptr[gene + 1]]
        assert np.all(np.diff(cells) > 0)
        assert cells[0] >= 0
        assert cells[-1] < 1_000
