"""The report is one page that needs nothing else, shows what it is given, and trusts no name."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Drawing

from crispyx.de import RankGenesGroupsResult
from crispyx.errors import InputError
from crispyx.report import (
    DifferentialExpression,
    Fact,
    Figure,
    GuideFit,
    OutputFile,
    ReportContent,
    Section,
    Step,
    Table,
    inline_svg,
    summarize_perturbations,
    write_report,
)
from crispyx.report.markup import element, linked
from crispyx.report.numbers import NOTHING, lfc_text, p_text, percent_text
from crispyx.report.tables import ROWS_SHOWN

VILE_GENE = '<script>alert("gene")</script>'
VILE_GROUP = '</script><img src=x onerror="alert(1)">&amp;'
CELLS = {"A": 100, VILE_GROUP: 50, "untested": 1}


def make_result(groups: list[str], genes: list[str], seed: int = 0) -> RankGenesGroupsResult:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3, (len(groups), len(genes)))
    p = np.exp(-(z**2) / 2)
    table = np.abs(rng.normal(0, 1, z.shape)) * np.sign(z)
    return RankGenesGroupsResult(
        genes=pd.Index(genes),
        groups=groups,
        statistics=z,
        pvalues=p / 2,
        pvalues_adj=p,
        logfoldchanges=table,
        effect_size=table / 10,
        u_statistics=table,
        pts=rng.random(z.shape),
        pts_rest=rng.random(z.shape),
        order=np.argsort(-np.abs(z), axis=1, kind="stable"),
        groupby="perturbation",
        method="wilcoxon",
        control_label="ctrl",
        tie_correct=True,
        pvalue_correction="benjamini-hochberg",
    )


def small_result() -> RankGenesGroupsResult:
    result = make_result(list(CELLS), ["A", "B", VILE_GENE, "D", "E"])
    for name in ("statistics", "pvalues", "pvalues_adj", "logfoldchanges", "effect_size"):
        getattr(result, name)[2] = np.nan
    result.statistics[0], result.pvalues[0] = [-40.0, 1.0, 5.0, 0.5, 0.1], [0, 0.3, 1e-7, 0.6, 0.9]
    result.pvalues_adj[0], result.logfoldchanges[0] = (
        [0, 0.5, 2e-7, 0.8, 0.9],
        [-31.5, 0.2, 1.5, 0.1, 0.0],
    )
    result.order[0] = [0, 2, 1, 3, 4]
    return result


def content(result: RankGenesGroupsResult | None = None, text: str = "plain") -> ReportContent:
    result = small_result() if result is None else result
    cells = {label: CELLS.get(label, 10) for label in result.groups}
    section = Section(
        paragraphs=(text,),
        table=Table(text, ("", text), [(text, 1234)]),
        figures=(Figure("<svg></svg>", text, text),),
    )
    return ReportContent(
        title=text,
        subtitle=text,
        notice=text,
        facts=(Fact(text, text),),
        summary=(text,),
        steps=(Step(5, text, text),),
        guides=section,
        guide_fits=(GuideFit(text, text, 30, 20, 5.0, 0.01, math.nan),),
        quality=section,
        expression=DifferentialExpression(
            paragraphs=(text,),
            result=result,
            perturbations=summarize_perturbations(result, cells),
            alpha=0.05,
            on_target=(text,),
        ),
        methods=(text,),
        references=(f"{text} https://doi.org/10.1/x.",),
        next_paragraphs=(text,),
        next_code=text,
        files=(OutputFile(text, text),),
        version="1.2.3",
    )


class Page(HTMLParser):
    """Elements of a page, the text of its scripts and styles, and the words a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.raw:
            self.raw[self._open][-1] += data
        else:
            self.words.append(data)

    @property
    def data(self) -> Any:
        return json.loads(self.raw["script"][0])

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return Page(write_report(path, content()).read_text(encoding="utf-8"))


def assert_loads_nothing(page: Page) -> None:
    """Fail if a browser would fetch anything to show the page."""
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base", "form"}, tag
        assert "src" not in attributes
        target = attributes.get("href") or "#"
        # A link to a citation loads nothing until it is clicked.
        assert target.startswith("#") or (tag == "a" and target.startswith("https://")), target
        assert not [name for name in attributes if name.startswith("on")], attributes
    for style in page.raw["style"]:
        assert "@import" not in style
        assert "url(" not in style


def points_of(group: dict[str, Any], gene_type: str = "<u2") -> tuple[np.ndarray, ...]:
    """Return genes, thousandths of log2FC and hundredths of -log10 adjusted p."""
    packed = base64.b64decode(group["points"])
    n = len(packed) // (4 + np.dtype(gene_type).itemsize)
    width = np.dtype(gene_type).itemsize
    return (
        np.frombuffer(packed, gene_type, n),
        np.frombuffer(packed, "<i2", n, width * n),
        np.frombuffer(packed, "<u2", n, (width + 2) * n),
    )


def top_of(group: dict[str, Any]) -> np.ndarray:
    """Return the columns (5, n_top) of the top genes."""
    return np.frombuffer(base64.b64decode(group["top"]), "<f4").reshape(5, -1)


def test_page_loads_nothing(page: Page) -> None:
    assert_loads_nothing(page)
    assert "http" not in page.raw["script"][1].replace("http://www.w3.org/2000/svg", "")


def test_browser_is_told_to_run_the_script_of_the_page_and_no_other(page: Page) -> None:
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv"))
    digest = hashlib.sha256(page.raw["script"][1].encode()).digest()
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


@pytest.mark.parametrize("vile", [VILE_GENE, VILE_GROUP, "$title ${x} $$", "'\"><b>&lt;"])
def test_text_never_becomes_markup(vile: str, tmp_path: Path) -> None:
    plain = Page(write_report(tmp_path / "a.html", content()).read_text(encoding="utf-8"))
    other = Page(write_report(tmp_path / "b.html", content(text=vile)).read_text(encoding="utf-8"))
    assert [tag for tag, _ in other.elements] == [tag for tag, _ in plain.elements]
    assert "".join(other.words).count(vile) > 15
    assert_loads_nothing(other)


def test_vile_names_are_shown_as_they_are(page: Page) -> None:
    assert page.count("script") == 2
    assert page.count("img") == 0
    words = "".join(page.words)
    assert VILE_GROUP in words
    assert VILE_GENE in page.data["genes"]
    assert VILE_GROUP in [group["name"] for group in page.data["groups"]]


def test_data_of_the_plots_are_those_of_the_result(page: Page) -> None:
    result = small_result()
    first, _, untested = page.data["groups"]
    assert first["cells"] == 100
    assert (first["lowered"], first["raised"], first["target"]) == (1, 1, 0)
    genes, lfc, height = points_of(first)
    assert genes.tolist() == result.order[0].tolist()
    assert (lfc[0], height[0]) == (-31_500, 30_000)
    assert lfc[1] == 1_500
    # Hundredths of -log10: half a step is the largest rounding.
    assert height[1] / 100 == pytest.approx(-np.log10(2e-7), abs=0.005)
    p, adjusted, fold, control, perturbed = top_of(first)
    assert p[0] == adjusted[0] == -np.inf
    np.testing.assert_array_equal(fold, result.logfoldchanges[0, genes].astype(np.float32))
    np.testing.assert_array_equal(control, result.pts_rest[0, genes].astype(np.float32))
    np.testing.assert_array_equal(perturbed, result.pts[0, genes].astype(np.float32))
    assert untested["points"] == untested["top"] == ""
    assert untested["untested"] == 5


def test_tables_are_readable_without_any_script(page: Page) -> None:
    words = page.words
    assert "1,234" in words
    tables = [a.get("id") for tag, a in page.elements if tag == "table"]
    assert {"table-perturbations", "table-targets", "top-genes"} <= set(tables)
    for tag, attributes in page.elements:
        if tag == "th":
            assert attributes.get("scope") in {"row", "col"}
        if attributes.get("role") == "img":
            assert attributes.get("aria-label")
    assert page.count("caption") == page.count("table")
    labels = {a.get("for") for tag, a in page.elements if tag == "label"}
    controls = {a.get("id") for tag, a in page.elements if tag in {"input", "select"}}
    assert controls == labels


def test_ids_are_unique(page: Page) -> None:
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"] for tag, a in page.elements if tag == "a" and (a["href"] or "")[0] == "#"}
    assert links <= {f"#{name}" for name in ids}


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_report(tmp_path / "a.html", content()).read_bytes()
    assert write_report(tmp_path / "b.html", content()).read_bytes() == first
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.html", "b.html"]


def test_page_of_a_large_screen_stays_small_and_keeps_every_perturbation(tmp_path: Path) -> None:
    groups, genes = [f"P{i}" for i in range(900)], [f"GENE{i}" for i in range(2000)]
    given = content(make_result(groups, genes))
    path = write_report(tmp_path / "large.html", given)
    assert path.stat().st_size < 5_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert set(page.words) >= set(groups)
    assert [group["name"] for group in page.data["groups"]] == groups
    for group in page.data["groups"]:
        assert group["hidden"] == len(genes) - len(points_of(group)[0]) > 0
    links = [a for tag, a in page.elements if tag == "a" and "data-perturbation" in a]
    assert len(links) == 900


def test_rows_beyond_the_first_wait_in_a_template(tmp_path: Path) -> None:
    groups = [f"P{i}" for i in range(ROWS_SHOWN + 3)]
    path = write_report(tmp_path / "a.html", content(make_result(groups, ["GENE1", "GENE2"])))
    text = path.read_text(encoding="utf-8")
    waiting = re.search(r'<template id="more-perturbations">(.*?)</template>', text, re.DOTALL)
    assert waiting is not None
    assert re.findall('data-perturbation="(P[0-9]+)"', waiting.group(1)) == groups[ROWS_SHOWN:]
    assert f"{ROWS_SHOWN} of {ROWS_SHOWN + 3} rows are shown." in text


def test_thinning_keeps_the_most_significant_genes(tmp_path: Path) -> None:
    result = make_result(["P"], [f"GENE{i}" for i in range(70_000)])
    page = Page(write_report(tmp_path / "a.html", content(result)).read_text(encoding="utf-8"))
    (group,) = page.data["groups"]
    drawn = points_of(group, "<u4")[0].tolist()
    assert drawn[:12_500] == result.order[0][:12_500].tolist()
    assert len(set(drawn)) == len(drawn) == 25_000
    assert drawn[-1] == result.order[0][-1]


def test_sections_that_a_screen_lacks_are_left_out(tmp_path: Path) -> None:
    bare = replace(content(), guides=None, quality=None)
    page = Page(write_report(tmp_path / "a.html", bare).read_text(encoding="utf-8"))
    sections = [a["id"] for tag, a in page.elements if tag == "section"]
    assert sections == ["summary", "expression", "volcano", "targets", "methods", "next"]
    full = replace(content(), cells=content().quality, calibration=content().quality)
    page = Page(write_report(tmp_path / "b.html", full).read_text(encoding="utf-8"))
    sections = [a["id"] for tag, a in page.elements if tag == "section"]
    assert sections[1:4] == ["guides", "quality", "cells"]
    assert sections[-3:] == ["calibration", "methods", "next"]


def test_report_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        write_report(tmp_path / "no" / "report.html", content())


def test_screen_without_measured_targets_has_no_target_table(tmp_path: Path) -> None:
    given = content(make_result(["P"], ["GENE1"]))
    page = Page(write_report(tmp_path / "a.html", given).read_text(encoding="utf-8"))
    assert "table-targets" not in [a.get("id") for _, a in page.elements]
    assert page.data["groups"][0]["target"] is None


def test_perturbation_summary_counts_hits_and_finds_the_own_target() -> None:
    result = small_result()
    first, second, untested = summarize_perturbations(result, CELLS, target_genes={VILE_GROUP: "D"})
    assert (first.n_cells, first.n_tested, first.n_lowered, first.n_raised) == (100, 5, 1, 1)
    assert (first.top_gene, first.top_pvalue_adj) == ("A", 0.0)
    assert first.target is not None
    assert (first.target.gene, first.target.rank, first.target.verdict(0.05)) == ("A", 1, "lowered")
    assert second.target is not None
    assert second.target.gene == "D"
    assert second.target.rank == 1 + result.order[1].tolist().index(3)
    assert (untested.n_tested, untested.n_hits, untested.top_gene) == (0, 0, None)
    assert untested.target is None


def test_verdict_on_a_target_follows_p_then_sign() -> None:
    target = summarize_perturbations(small_result(), CELLS)[0].target
    assert target is not None
    assert target.verdict(0.05) == "lowered"
    assert replace(target, logfoldchange=1.0).verdict(0.05) == "raised"
    assert replace(target, pvalue_adj=0.06).verdict(0.05) == "not significant"
    assert replace(target, pvalue_adj=np.nan).verdict(0.05) == "not tested"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "< 1e-300"),
        (3.24e-18, "3.2e-18"),
        (9.99e-5, "1.0e-4"),
        (0.0012, "0.0012"),
        (0.5, "0.5"),
        (1.0, "1"),
        (np.nan, "\N{EN DASH}"),
    ],
)
def test_p_values_have_two_digits(p: float, text: str) -> None:
    assert p_text(p) == text


def test_fold_changes_and_shares_are_written_with_sign_and_unit() -> None:
    assert lfc_text(-1.239) == "\N{MINUS SIGN}1.24"
    assert lfc_text(0.5) == "+0.50"
    assert lfc_text(25.0) == "> +10"
    assert lfc_text(np.nan) == percent_text(np.nan) == "\N{EN DASH}"
    assert percent_text(0.016) == "1.6\N{NO-BREAK SPACE}%"
    assert percent_text(0.5) == "50\N{NO-BREAK SPACE}%"


def test_addresses_in_a_citation_become_links_without_the_full_stop() -> None:
    assert linked("See https://doi.org/10.1/x.") == (
        'See <a href="https://doi.org/10.1/x" rel="noreferrer">https://doi.org/10.1/x</a>.'
    )
    assert linked("<b> javascript:alert(1)") == "&lt;b&gt; javascript:alert(1)"


def test_attributes_are_escaped_and_empty_ones_left_out() -> None:
    assert element("td", "<", title='"><', hidden=True, lang=None) == (
        '<td title="&quot;&gt;&lt;" hidden>&lt;</td>'
    )


def test_drawing_follows_the_theme_and_repeats_to_the_byte() -> None:
    def draw() -> str:
        figure = Drawing()
        axes = figure.subplots()
        axes.bar([1, 2], [3, 4], color="#0072b2")
        axes.plot([1, 2], [3, 4], marker="o")
        axes.set_title("<b>bold</b>")
        return inline_svg(figure, "name")

    svg = draw()
    assert svg == draw()
    assert "var(--down)" in svg
    assert "#0072b2" not in svg
    assert "http" not in svg
    assert "DejaVu" not in svg
    assert "<style" not in svg
    assert "&lt;b&gt;bold" in svg
    used = set(re.findall(r"(?:href=\"|url\()#([\w-]+)", svg))
    assert used == set(re.findall(r'\sid="([\w-]+)"', svg))


def test_fit_of_every_guide_is_a_row_and_doubtful_ones_are_counted(tmp_path: Path) -> None:
    fits = (
        GuideFit(VILE_GROUP, "ok", 1200, 500, 6.0, 0.0123, 1234.4),
        GuideFit("g2", "weak", 7, 3, 5.0, math.nan, math.nan),
    )
    path = write_report(tmp_path / "r.html", replace(content(), guide_fits=fits))
    text = path.read_text(encoding="utf-8")
    assert "The fit of every guide (2 guides, 1 without a reliable fit)" in text
    table = re.search(r'<table id="table-guide-fits".*?</table>', text, flags=re.DOTALL)
    assert table is not None
    rows = re.findall(r"<tr>(.*?)</tr>", table.group(), flags=re.DOTALL)[1:]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert cells[0][1:] == ["ok", "1,200", "500", "6", "1.2\u00a0%", "1,234"]
    assert cells[1] == ["g2", "weak", "7", "3", "5", NOTHING, NOTHING]
    without = write_report(tmp_path / "s.html", replace(content(), guide_fits=()))
    assert "The fit of every guide" not in without.read_text(encoding="utf-8")
