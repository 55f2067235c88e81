"""The report works in a real browser: tables, search, plots; nothing is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crispyx.de import RankGenesGroupsResult
from crispyx.report import (
    DifferentialExpression,
    Fact,
    ReportContent,
    Step,
    summarize_perturbations,
    write_report,
)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
N_GROUPS, N_GENES = 450, 40


def result() -> RankGenesGroupsResult:
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, (N_GROUPS, N_GENES))
    p = np.exp(-(z**2) / 2)
    return RankGenesGroupsResult(
        genes=pd.Index([f"GENE{i}" for i in range(N_GENES)]),
        groups=["GENE7", *(f"P{i}" for i in range(1, N_GROUPS))],
        statistics=z,
        pvalues=p / 2,
        pvalues_adj=p,
        logfoldchanges=z / 4,
        effect_size=z,
        u_statistics=z,
        pts=rng.random(z.shape),
        pts_rest=rng.random(z.shape),
        order=np.argsort(-np.abs(z), axis=1, kind="stable"),
        groupby="perturbation",
        method="wilcoxon",
        control_label="ctrl",
        tie_correct=True,
        pvalue_correction="benjamini-hochberg",
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    given = result()
    cells = {label: 10 + row for row, label in enumerate(given.groups)}
    path = write_report(
        tmp_path_factory.mktemp("report") / "report.html",
        ReportContent(
            title="Screen",
            subtitle="",
            notice="",
            facts=(Fact("1", "one"),),
            summary=("found",),
            steps=(Step(1, "cells"),),
            guides=None,
            guide_fits=(),
            quality=None,
            expression=DifferentialExpression(
                (), given, summarize_perturbations(given, cells), 0.05, ()
            ),
            methods=(),
            references=(),
            next_paragraphs=(),
            next_code="",
            files=(),
            version="1",
        ),
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.faults = []
        opened.on("console", lambda said: opened.faults.append(said.text))
        opened.on("pageerror", lambda error: opened.faults.append(str(error)))
        opened.on("request", lambda asked: opened.faults.append(asked.url))
        opened.goto(path.as_uri())
        assert opened.faults == [path.as_uri()]
        opened.faults.clear()
        yield opened
        assert opened.faults == []
        browser.close()


def first_names(page: Any, n: int = 3) -> list[str]:
    names = page.locator("#table-perturbations tbody th").all_inner_texts()
    return [str(name) for name in names[:n]]


def test_rows_are_shown_sorted_and_found(page: Any) -> None:
    rows = page.locator("#table-perturbations tbody tr")
    assert rows.count() == 200
    page.click("#note-perturbations button")
    assert rows.count() == 400
    cells = page.locator("#table-perturbations th[data-kind=number]").first
    cells.click()
    assert first_names(page) == ["GENE7", "P1", "P2"]
    cells.click()
    assert first_names(page) == [f"P{N_GROUPS - 1}", f"P{N_GROUPS - 2}", f"P{N_GROUPS - 3}"]
    page.fill("#search", "p44")
    # P44 and P440 to P449.
    assert rows.count() == 11
    assert "of 450 rows" in page.inner_text("#found")
    page.fill("#search", "")


def test_volcano_of_any_perturbation_is_drawn_when_asked_for(page: Any) -> None:
    given = result()
    page.fill("#search", "P321")
    page.click("#table-perturbations [data-perturbation=P321]")
    assert "P321" in page.get_attribute("#plot", "aria-label")
    dots = page.locator("#plot path.point").evaluate_all(
        "paths => paths.map(path => (path.getAttribute('d').match(/M/g) || []).length)"
    )
    assert sum(dots) == N_GENES
    row = given.groups.index("P321")
    top = given.order[row, 0]
    shown = page.locator("#top-genes tbody tr").first.inner_text().split("\t")
    assert shown[0] == f"GENE{top}"
    lfc = given.logfoldchanges[row, top]
    assert shown[1] == f"{'+' if lfc > 0 else chr(0x2212)}{abs(lfc):.2f}"
    assert float(shown[2]) == pytest.approx(given.pvalues[row, top], rel=0.06)  # two digits
    assert page.locator("tr[aria-current] th").inner_text() == "P321"
    page.click("#following")
    assert "P322" in page.get_attribute("#plot", "aria-label")
    page.fill("#search", "")


def test_own_target_is_ringed_and_points_say_their_gene(page: Any) -> None:
    page.select_option("#choose", "0")
    assert page.locator("#plot .ring").count() == 1
    page.locator("#plot .ring").scroll_into_view_if_needed()
    ring = page.locator("#plot .ring").bounding_box()
    page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    assert page.inner_text("#tip").startswith("GENE7: log2FC ")
