"""How results are judged beside another tool, without any tool and without a network."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import made_up_suites
import numpy as np
import pytest

import crispyx as cx
from reference import apeglm, dispersion
from validation.benchmarks import guard
from validation.benchmarks.scaling import BASE, Found, costs, growth, page, write_screen
from validation.mutants import Outcome, load_mutants
from validation.parity import ours, session
from validation.parity.arms import simulated_arms
from validation.parity.check import FAILING, Check, Row, differences, judge
from validation.parity.outside import Outside, PeerError
from validation.parity.processes import run_suites
from validation.parity.report import html, markdown
from validation.parity.report.plots import worth_drawing
from validation.parity.screens import n_guides
from validation.parity.session import Session
from validation.parity.suites import (
    PEERS,
    SLOWEST_FIRST,
    Case,
    cases,
    pydeseq2,
    pydeseq2_modes,
)
from validation.parity.suites.guide_calls import calls_check, pair_numbers
from validation.parity.tolerances import Tolerance, Tolerances, load_semantics, load_tolerances
from validation.peers.catalog import load_peers

CLOSE = Tolerance("absolute", 1e-3, 1e-6, "a reason")
VALUES = np.linspace(0.01, 1, 40)


def check(shift: float = 0.0, between: float = 0.0, **given) -> Check:
    ours = VALUES + shift
    return Check("rank_sum", "p", VALUES, ours, ours + between, **given)


def status(**given) -> str:
    return judge(check(**given), "scipy", "simulated", CLOSE).status


def test_a_difference_is_a_bug_unless_it_is_small_or_explained() -> None:
    assert status(shift=1e-4) == "agrees"
    assert status(shift=2e-3) == "bug"
    assert status(shift=2e-3, explained={"a rule": np.ones(40, bool)}) == "explained"
    assert status(shift=2e-3, explained={"a rule": VALUES < 1}) == "bug"  # one element is left
    # What is explained but does not differ is not counted.
    assert status(shift=1e-4, explained={"a rule": np.ones(40, bool)}) == "agrees"


def test_the_engines_may_not_differ_even_where_the_other_tool_does() -> None:
    everywhere = {"a rule": np.ones(40, bool)}
    assert status(between=1e-5) == "bug"
    assert status(shift=2e-3, between=1e-5, explained=everywhere) == "bug"
    assert status(between=1e-5, other_optimum=np.ones(40, bool)) == "explained"


def test_numbers_that_were_handed_over_are_named_and_excuse_nothing() -> None:
    row = judge(check(shift=1e-4, handed_over={"a rule": 2}), "scipy", "simulated", CLOSE)
    assert row.status == "explained"
    assert row.explanations == {"a rule": 2}
    assert status(shift=1e-4, handed_over={"a rule": 0}) == "agrees"
    assert status(shift=2e-3, handed_over={"a rule": 40}) == "bug"
    assert status(between=1e-5, handed_over={"a rule": 40}) == "bug"


def test_a_share_of_the_numbers_may_be_allowed_to_differ() -> None:
    flags = Tolerance("exact", 0, 0, "a reason", share=0.05)
    outside = np.arange(40) < 20
    for n, expected in ((2, "agrees"), (3, "bug")):
        ours = outside ^ (np.arange(40) < n)
        assert judge(Check("m", "q", outside, ours, ours), "t", "d", flags).status == expected


def test_numbers_on_one_side_only_differ_and_on_neither_do_not() -> None:
    nan = np.array([np.nan, np.nan, 1.0, np.inf])
    other = np.array([np.nan, 1.0, np.nan, np.inf])
    for measure in ("exact", "absolute", "relative", "mixed", "log"):
        assert differences(measure, nan, other).tolist() == [0, np.inf, np.inf, 0]
    assert differences("log", [1e-310], [0]) == 0  # both are below what is told apart
    with pytest.raises(ValueError, match="shapes"):
        differences("exact", np.ones(2), np.ones(1))


def test_the_worst_element_is_named_with_its_three_values() -> None:
    row = judge(check(shift=2e-3, labels=(np.arange(40).astype(str),)), "scipy", "d", CLOSE)
    name, _, values = row.worst.partition(": ")
    outside, reference, compiled = map(float, values.split(" | "))
    assert outside == pytest.approx(VALUES[int(name)])
    assert reference == compiled == pytest.approx(outside + 2e-3)


def test_nothing_to_compare_is_a_failure() -> None:
    empty = Check("m", "q", np.array([]), None, np.array([]))
    assert judge(empty, "t", "d", CLOSE).fails


def test_a_tool_may_have_a_tolerance_of_its_own() -> None:
    table = {"measure": "log", "outside": 1, "engines": 2, "reason": "a"}
    own = Tolerances({"m": {"q": table | {"scanpy": {"outside": 3, "reason": "b"}}}})
    assert own.of("m", "q", "scipy") == Tolerance("log", 1, 2, "a")
    assert own.of("m", "q", "scanpy") == Tolerance("log", 3, 2, "b")
    with pytest.raises(KeyError, match=r"no \[m\.z\]"):
        own.of("m", "z", "scipy")


def test_every_tolerance_has_a_known_measure_and_a_reason() -> None:
    tolerances = load_tolerances()
    for method, quantities in tolerances.tables.items():
        for quantity in quantities:
            found = tolerances.of(method, quantity, "scanpy")
            assert found.measure in {"exact", "absolute", "relative", "mixed", "log"}
            assert len(found.reason) > 10
            assert 0 <= found.share < 0.05


def test_every_method_compared_has_its_page_and_every_tool_its_pin() -> None:
    docs = Path(__file__).parents[1] / "docs" / "methods"
    pages = {path.stem for path in docs.glob("*.md")} | {"neighbors", "nb_glm"}
    for peer in PEERS:
        assert peer in load_peers()
        assert cases(peer)
        assert {case.method for case in cases(peer)} <= pages


def test_calls_are_compared_over_the_pairs_that_anyone_calls() -> None:
    ours = np.array([[0, 0], [1, 1], [2, 2]])
    counts = np.arange(12).reshape(4, 3)
    found = calls_check("m", "q", pair_numbers([0, 3], [0, 1]), (None, ours), counts, 2)
    assert found.reference is None
    assert found.outside.tolist() == [True, False, True]
    assert found.compiled.tolist() == [True, True, False]  # guide 2 is not one of the first two
    assert found.labels[0][1] == "cell 1, guide 1, 4 UMIs"


@pytest.fixture(scope="module")
def arms():
    """Return a simulated comparison and what the rules read of PyDESeq2's answer, ours so far."""
    cells = simulated_arms(n_cells=72, n_genes=40, seed=1)
    genes, s = range(len(cells.genes)), np.ones(72)
    upper = dispersion.largest_dispersion(72)
    start = [dispersion.rough_moments(cells.of_gene(g, s), upper) for g in genes]
    answer = {"size_factors": s, "_MoM_dispersions": np.array(start)}
    answer["genewise_dispersions"] = pydeseq2._genewise(cells, answer)[0]
    return cells, answer


def test_a_mode_is_excused_where_its_loss_is_higher_and_only_there() -> None:
    cells = simulated_arms(n_cells=72, n_genes=40, seed=1)
    n = len(cells.genes)
    s, alpha = np.ones(len(cells.counts)), np.full(n, 0.4)
    mine = np.array(
        [apeglm.shrink_counts(*cells.of_gene(g, s), 0.4, 0.5, literal=True)[:2] for g in range(n)]
    )
    theirs = {"size_factors": s, "dispersions": alpha, "prior_scale": np.array([0.5])}
    same = pydeseq2_modes.excess_losses(cells, {**theirs, "modes": mine}, mine)
    assert (same <= 0).all()
    short = mine + 1e-3 * (np.arange(n)[:, None] % 3 == 0)
    assert (pydeseq2_modes.excess_losses(cells, {**theirs, "modes": short}, mine) > 0).tolist() == [
        g % 3 == 0 for g in range(n)
    ]
    # Were ours the worse one, it would not be excused.
    assert (pydeseq2_modes.excess_losses(cells, {**theirs, "modes": mine}, short) <= 0).all()


def test_only_dispersions_that_are_far_and_worse_are_handed_over(arms, monkeypatch) -> None:
    cells, answer = arms
    assert pydeseq2.handed_over(cells, answer).size == 0
    inner = np.flatnonzero(np.abs(np.log(answer["genewise_dispersions"])) < 3)[:3]
    moved = answer["genewise_dispersions"].copy()
    moved[inner] *= 3.0, 1.001, 0.3  # the second is within what does not move the others
    theirs = answer | {"genewise_dispersions": moved}
    assert pydeseq2.handed_over(cells, theirs).tolist() == inner[[0, 2]].tolist()
    # Where ours are the worse ones, nothing is handed over: the row has to show it.
    monkeypatch.setattr(pydeseq2, "_genewise", lambda *_: (moved, moved))
    assert pydeseq2.handed_over(cells, answer).size == 0


def test_a_given_dispersion_moves_the_trend_and_with_it_all_genes(arms) -> None:
    cells, answer = arms
    genes = np.array([3, 30])
    values = 4 * answer["genewise_dispersions"][genes]

    def compute(folder: Path, given: slice) -> dict[str, np.ndarray]:
        with ours.given_dispersions(genes[given], values[given]):
            return ours.tested(
                cx.nb_glm_test,
                pydeseq2._written(cells, folder),
                "control",
                layers=("dispersion_raw", "dispersion_trend", "dispersion"),
                preset="pydeseq2",
                size_factors=answer["size_factors"],
                chunk_size=16,  # blocks have other positions than the file
            )(folder)

    for before, after in zip(
        ours.by_engine(lambda folder: compute(folder, slice(0))),
        ours.by_engine(lambda folder: compute(folder, slice(None))),
        strict=True,
    ):
        raw = before["dispersion_raw"][0].copy()
        raw[genes] = values
        assert after["dispersion_raw"][0].tolist() == raw.tolist()
        for name in ("dispersion_trend", "dispersion"):
            assert (after[name] != before[name]).mean() > 0.9


@pytest.fixture
def small(monkeypatch):
    """Return a function that runs made-up cases."""

    def run(*found: Case) -> Session:
        table = {"measure": "absolute", "outside": 1e-3, "engines": 1e-6, "reason": "a reason"}
        monkeypatch.setattr(session, "cases", lambda peer: found)
        tolerances = Tolerances({"rank_sum": {"p": table}})
        monkeypatch.setattr(session, "load_tolerances", lambda: tolerances)
        monkeypatch.setattr(session, "load_semantics", lambda: {"a rule": "words"})
        return session.run("scipy", Path("unused"))

    return run


def raising(error: Exception):
    def checks(bench, data):
        raise error
        yield

    return checks


def test_every_case_that_cannot_be_compared_is_a_row_and_the_others_go_on(small) -> None:
    found = small(
        Case("rank_sum", "a", raising(PeerError("not installed", "no wheel"))),
        Case("rank_sum", "b", raising(PeerError("failed", "no memory"))),
        Case("rank_sum", "c", raising(FileNotFoundError("set CRISPYX_DATA_DIR"))),
        Case("rank_sum", "d", raising(ZeroDivisionError("by zero"))),
        Case("rank_sum", "e", lambda bench, data: iter([check(2e-3)])),
        Case("rank_sum", "f", lambda bench, data: iter([check()])),
    )
    words = ["not installed", "failed", "not run", "failed", "bug", "agrees"]
    assert [row.status for row in found.rows] == words
    assert found.n_failing == 4
    assert found.rows[0].note == "no wheel"


def test_a_quantity_may_be_held_to_the_tolerance_of_another(small) -> None:
    for shift, expected in ((0, "agrees"), (2e-3, "bug")):
        other = replace(check(shift), method="other", quantity="q", held_to=("rank_sum", "p"))
        found = small(Case("other", "a", lambda bench, data, one=other: iter([one])))
        assert [row.status for row in found.rows] == [expected]


def test_an_explanation_without_words_fails_and_the_others_go_on(small) -> None:
    odd = check(2e-3, explained={"another rule": np.ones(40, bool)})
    found = small(Case("rank_sum", "a", lambda bench, data: iter([odd, check()])))
    assert [row.status for row in found.rows] == ["failed", "agrees"]
    assert found.rows[0].note == "semantics.toml has no another rule"


def test_a_suite_that_dies_leaves_the_others_and_its_rows(tmp_path: Path) -> None:
    found = run_suites(["scipy", "kaichi", "illico"], tmp_path, suite=made_up_suites.suite)
    rows = [(row.peer, row.status) for row in found.rows]
    assert rows == [
        ("scipy", "agrees"),
        ("kaichi", "agrees"),
        ("kaichi", "failed"),
        ("illico", "agrees"),
    ]
    assert found.rows[2].note == f"its process ended with exit code {made_up_suites.EXIT_CODE}"
    assert found.versions == {"scipy": "1.0", "illico": "1.0"}
    assert (found.computed, found.kept) == (2, 4)
    assert set(found.of_suite) == {"scipy", "kaichi", "illico"}


def test_every_tool_has_its_place_in_the_order_of_starting() -> None:
    assert sorted(SLOWEST_FIRST) == sorted(PEERS)


def test_both_reports_show_every_row_and_why(small) -> None:
    ruled = check(2e-3, explained={"a rule": np.ones(40, bool)})
    found = small(
        Case("rank_sum", "first", lambda bench, data: iter([check(2e-3)])),
        Case("rank_sum", "second", lambda bench, data: iter([ruled])),
        Case("rank_sum", "third", raising(PeerError("not installed", "no wheel | for <this>"))),
    )
    given = ("python -m validation run scipy", {"memory": "16 GiB"}, {"a rule": "words"})
    for render in (markdown.page, html.page):
        text = render(found, *given)
        for words in ("first", "second", "not installed", "a reason", "16 GiB", "a rule (40)"):
            assert words in text
        assert "1 bug, 1 explained, 1 not installed" in text
    assert html.page(found, *given).count("data:image/png") == 2
    assert "for &lt;this&gt;" in html.page(found, *given)
    overview = markdown.overview(found, *given)
    assert "| [rank_sum](methods/rank_sum.md) | scipy | first, second, third | 80 |" in overview


def test_flags_and_few_numbers_are_not_drawn() -> None:
    row = judge(check(), "t", "d", CLOSE)
    assert worth_drawing(row)
    flags = replace(check(), outside=VALUES > 0.5)
    assert not worth_drawing(replace(row, check=flags))
    assert not worth_drawing(replace(row, n=3))
    assert not worth_drawing(Row("t", "m", "q", "d", "failed"))


def test_answers_of_a_tool_are_kept_until_something_changes(tmp_path, monkeypatch) -> None:
    asked = []
    outside = Outside(tmp_path)
    monkeypatch.setattr(outside, "_python", lambda peer: Path(sys.executable))
    run = subprocess.run

    def counted(command, **given):
        asked.append(command)
        return run(command, **given)

    monkeypatch.setattr("validation.parity.outside.subprocess.run", counted)
    p = np.array([[0.01, 0.5, 0.02]])
    for values, n in ((p, 1), (p, 1), (p / 2, 2)):
        found = outside.ask("scipy", "adjusted", {"p": values})
        assert found["bonferroni"][0, 0] == pytest.approx(3 * values[0, 0])
        assert len(asked) == n
    assert set(outside.versions) == {"scipy"}
    with pytest.raises(PeerError, match="KeyError"):
        outside.ask("scipy", "adjusted", {"q": p})
    assert not list(tmp_path.glob("answers/.*"))  # a failed answer leaves nothing


def test_guides_that_are_compared_stand_in_the_name_of_their_file() -> None:
    names = ("guides", "guides-12", "guides-2-cells-4000")
    assert [n_guides(name) for name in names] == [86, 12, 2]


def test_a_mutant_is_caught_by_failing_tests_and_a_row_that_names_its_method() -> None:
    named = ["bug       scipy: welch, p, simulated: 1.0e-02 of 10"]
    assert Outcome(1, 1, named).catches("welch")
    assert not Outcome(1, 1, named).catches("rank_sum")
    assert not Outcome(0, 1, named).catches("welch")  # the tests say nothing
    assert not Outcome(4, 1, named).catches("welch")  # there were none
    assert Outcome(0, 0, []).passes
    assert not Outcome(0, 1, []).passes


def test_mutants_change_what_stands_in_the_kernels() -> None:
    root = Path(__file__).parents[1]
    for mutant in load_mutants():
        assert mutant.old != mutant.new
        assert (root / mutant.tests).is_file()
        assert mutant.method in {case.method for case in cases(mutant.peer)}


def test_a_quarter_more_than_the_baseline_is_slower() -> None:
    before = {"a": 0.2, "b": 0.2}
    found = guard.verdicts({"a": 0.249, "b": 0.251, "c": 1.0}, before)
    assert found == {"a": "ok", "b": "slower", "c": "new"}


def test_growth_is_the_exponent_of_a_power_law() -> None:
    points = [
        Found("wilcoxon", "cells", replace(BASE, cells=n), n, 8 * n, n**1.5, 1.0, 1.0)
        for n in (100, 1000, 10_000)
    ]
    assert growth(points) == pytest.approx(1.5)
    failed = replace(points[0], error="over 1 s")
    assert growth([*points[1:], failed]) == pytest.approx(1.5)
    text = page(points, "python -m validation scale", {"load before": "3"})
    assert "| cells | wilcoxon | 1.50 |" in text
    assert "Provisional" in text


def test_a_further_value_costs_what_is_beyond_the_start() -> None:
    points = [
        Found("wilcoxon", "cells", replace(BASE, cells=n), n, 8 * n, 3.0 + 2e-9 * n, 1.0, 1.0)
        for n in (100, 10**6, 10**8)
    ]
    (cost,) = costs(points)
    assert cost.nanoseconds == pytest.approx(2)
    assert cost.file_bytes == 8
    assert costs(points[:1]) == []
    assert "100 million cells" in page(points, "python -m validation scale", {})


def test_screens_of_the_scaling_have_the_density_asked_for(tmp_path: Path) -> None:
    import anndata

    point = replace(BASE, cells=500, genes=200, density=0.1, perturbations=5)
    n = write_screen(point, tmp_path / "screen.h5ad")
    screen = anndata.read_h5ad(tmp_path / "screen.h5ad")
    assert screen.shape == (500, 200)
    assert screen.X.nnz == n == pytest.approx(10_000, rel=0.1)
    assert screen.X.has_sorted_indices
    assert screen.obs["perturbation"].nunique() == 6


def test_what_fails_is_what_the_exit_code_counts() -> None:
    assert FAILING == ("bug", "not installed", "failed")
    assert set(load_semantics()) > {"all values equal", "another optimum"}
