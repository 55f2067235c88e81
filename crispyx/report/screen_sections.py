"""What the page of a whole screen says, in the words of the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from crispyx._version import __version__
from crispyx.report.content import (
    DifferentialExpression,
    Fact,
    OutputFile,
    ReportContent,
    Section,
    Step,
    Table,
)
from crispyx.report.guide_fits import guide_fits
from crispyx.report.perturbations import PerturbationSummary
from crispyx.report.screen_figures import (
    N_COLORED,
    calibration_figure,
    cells_figure,
    guides_figure,
    hits_figure,
    quality_figure,
)

if TYPE_CHECKING:
    import anndata

    from crispyx.de import CalibrationResult
    from crispyx.qc import QualityControlResult
    from crispyx.report.screen import ScreenFiles

TESTS = {
    "wilcoxon": (
        "Wilcoxon's rank-sum test",
        "Two-sided Mann-Whitney U test, normal approximation with tie correction, without "
        "continuity correction. Mann HB, Whitney DR (1947), Annals of Mathematical Statistics 18, "
        "50-60. https://doi.org/10.1214/aoms/1177730491",
    ),
    "t_test": (
        "Welch's t-test",
        "Welch's t-test with Satterthwaite's degrees of freedom. Welch BL (1947), Biometrika 34, "
        "28-35. https://doi.org/10.1093/biomet/34.1-2.28",
    ),
    "nb_glm": (
        "a negative binomial model",
        "Negative binomial generalized linear model of counts. Love MI, Huber W, Anders S (2014), "
        "Genome Biology 15, 550. https://doi.org/10.1186/s13059-014-0550-8",
    ),
}
ADJUSTED = (
    "Benjamini Y, Hochberg Y (1995), Journal of the Royal Statistical Society B 57, 289-300. "
    "https://doi.org/10.1111/j.2517-6161.1995.tb02031.x"
)
FEW = 12


def screen_content(found: ScreenFiles, *, title: str, files: Sequence[OutputFile]) -> ReportContent:
    """Return the content of the page."""
    test, source = TESTS.get(found.result.method, (found.result.method, ""))
    return ReportContent(
        title=title,
        subtitle=(
            f"{len(found.rows):,} perturbations against {found.n_cells[_control(found)]:,} control "
            f"cells ({_control(found)}), {len(found.result.genes):,} genes."
        ),
        notice="",
        facts=_facts(found),
        summary=_findings(found),
        steps=_steps(found),
        guides=None if found.calls is None else _guides(found.calls),
        guide_fits=() if found.calls is None else guide_fits(found.calls),
        quality=None if found.quality is None else _quality(found.quality, found.limits),
        expression=_expression(found, test),
        methods=_methods(found, test),
        references=tuple(text for text in (source.partition(". ")[2], ADJUSTED) if text),
        next_paragraphs=("Every number of this page is in the result file:",),
        next_code=_code(found),
        files=files,
        version=__version__,
        cells=_cells(found),
        calibration=None if found.calibration is None else _calibration(found.calibration),
    )


def _control(found: ScreenFiles) -> str:
    return found.result.control_label


def _targets(found: ScreenFiles) -> tuple[list[PerturbationSummary], int, int]:
    """Return perturbations whose target is measured, how many lower it, and lower it first."""
    aimed = [one for one in found.rows if one.target is not None]
    lowered = [one for one in aimed if one.target and one.target.verdict(found.alpha) == "lowered"]
    first = sum(one.target is not None and one.target.rank == 1 for one in lowered)
    return aimed, len(lowered), first


def _facts(found: ScreenFiles) -> tuple[Fact, ...]:
    aimed, lowered, _ = _targets(found)
    facts = [
        Fact(f"{sum(found.n_cells.values()):,}", "cells compared"),
        Fact(f"{len(found.result.genes):,}", "genes"),
        Fact(f"{len(found.rows):,}", "perturbations"),
        Fact(f"{found.n_cells[_control(found)]:,}", "control cells"),
        Fact(f"{sum(one.n_hits > 0 for one in found.rows):,}", "change some gene"),
    ]
    if aimed:
        facts.append(Fact(f"{lowered:,} of {len(aimed):,}", "own targets lowered"))
    return tuple(facts)


def _findings(found: ScreenFiles) -> list[str]:
    n_hits = sum(one.n_hits for one in found.rows)
    changing = sum(one.n_hits > 0 for one in found.rows)
    strongest = ", ".join(f"{one.perturbation} ({one.n_hits:,})" for one in found.rows[:3])
    points = [
        f"{changing:,} of {len(found.rows):,} perturbations change at least one gene; "
        f"{n_hits:,} pairs of perturbation and gene in all at adj p ≤ {found.alpha:g}."
    ]
    if n_hits:
        points.append(f"The most changes: {strongest}.")
    aimed, lowered, first = _targets(found)
    if aimed:
        points.append(
            f"{lowered:,} of {len(aimed):,} perturbations whose target is measured lower it; for "
            f"{first:,} it is the strongest change of all genes."
        )
    few = [one for one in found.rows if one.n_cells < 30]
    if few:
        points.append(
            f"{len(few):,} perturbations have fewer than 30 cells; read their p-values with care."
        )
    untested = [one for one in found.rows if not one.n_tested]
    if untested:
        points.append(f"{len(untested):,} perturbations could not be tested at all.")
    return points


def _steps(found: ScreenFiles) -> tuple[Step, ...]:
    steps: list[Step] = []
    if found.calls is not None:
        obs = found.calls.obs
        several, none = int(obs["is_multi_infected"].sum()), int(obs["is_unassigned"].sum())
        steps.append(Step(len(obs), "cells with guide counts"))
        steps.append(
            Step(
                len(obs) - several - none,
                "cells with exactly one guide",
                f"left out: {several:,} with several, {none:,} with none",
            )
        )
    compared = sum(found.n_cells.values())
    if found.quality is not None:
        n_before = len(found.quality.cell_mask)
        n_kept = int(found.quality.cell_mask.sum())
        steps.append(Step(n_before, "cells with expression data"))
        steps.append(
            Step(n_kept, "cells after quality control", f"left out: {n_before - n_kept:,}")
        )
    else:
        steps.append(Step(compared, "cells compared"))
    tested = sum(one.n_cells for one in found.rows)
    steps.append(
        Step(
            len(found.rows),
            "perturbations tested",
            f"{tested:,} cells against {found.n_cells[_control(found)]:,} control cells",
        )
    )
    return tuple(steps)


def _guides(calls: anndata.AnnData) -> Section:
    model = str(calls.uns["crispyx_guides"]["model"])
    doubtful = int((calls.var["status"].astype(str) != "ok").sum())
    several, none = (int(calls.obs[name].sum()) for name in ("is_multi_infected", "is_unassigned"))
    n = calls.n_obs
    rows = [
        (what, count, f"{100 * count / n:.1f}\u00a0%")
        for what, count in (
            ("no guide", none),
            ("exactly one guide", n - several - none),
            ("several guides", several),
        )
    ]
    judged = (
        "every guide has a reliable fit"
        if not doubtful
        else f"{doubtful:,} of {calls.n_vars:,} guides have no reliable fit (see the table)"
    )
    return Section(
        paragraphs=(f"Guides were called by the model {model}; {judged}.",),
        table=Table("Guides per cell", ("Cells with", "Cells", "Share"), rows),
        figures=(guides_figure(calls),),
    )


def _quality(quality: QualityControlResult, limits: dict[str, int]) -> Section:
    dropped = [label for label, kept in quality.perturbation_keep.items() if not kept]
    rows = [
        ("cells", len(quality.cell_mask), int(quality.cell_mask.sum())),
        ("labels", len(quality.perturbation_keep), len(quality.perturbation_keep) - len(dropped)),
        ("genes", len(quality.gene_mask), int(quality.gene_mask.sum())),
    ]
    texts = []
    if limits:
        texts.append(
            f"Kept are cells with at least {limits.get('min_genes', 0):,} genes, perturbations "
            f"with at least {limits.get('min_cells_per_perturbation', 0):,} such cells (the "
            f"control always), and genes in at least {limits.get('min_cells_per_gene', 0):,} of "
            "the cells left."
        )
    if dropped:
        more = f" and {len(dropped) - FEW:,} more" if len(dropped) > FEW else ""
        texts.append(f"Perturbations left out: {', '.join(dropped[:FEW])}{more}.")
    return Section(
        paragraphs=texts,
        table=Table("What was kept", ("", "Before", "After"), rows),
        figures=(quality_figure(quality, limits),),
    )


def _cells(found: ScreenFiles) -> Section | None:
    if found.layout is None:
        return None
    strongest = [one.perturbation for one in found.rows[:N_COLORED] if one.n_hits]
    figure = cells_figure(found.layout, list(found.labels), _control(found), strongest)
    return Section(paragraphs=(), figures=(figure,))


def _calibration(result: CalibrationResult) -> Section:
    rows = [
        (
            method,
            int(row["tests"]),
            f"{row['share_05']:.3f}",
            f"{row['share_001']:.4f}",
            f"{row['inflation']:.2f}",
        )
        for method, row in result.of_all_genes().iterrows()
    ]
    return Section(
        paragraphs=(
            "Groups of control cells with the sizes of the perturbations were tested against the "
            "other control cells. Nothing was done to them: of the p-values of a test that keeps "
            "its level, .05 are below .05.",
            *result.summary().splitlines(),
        ),
        table=Table(
            "p-values without any effect",
            ("Method", "Tests", "Below .05", "Below .001", "Inflation"),
            rows,
        ),
        figures=(calibration_figure(result),),
    )


def _expression(found: ScreenFiles, test: str) -> DifferentialExpression:
    aimed, lowered, first = _targets(found)
    on_target = (
        (
            f"{len(aimed):,} perturbations are aimed at a gene that is measured. {lowered:,} of "
            f"them lower it at adj p ≤ {found.alpha:g}; for {first:,} it is the strongest change "
            "of all genes. In a screen that activates genes, look for raised ones.",
        )
        if aimed
        else ("No perturbation is named after a gene that is measured.",)
    )
    return DifferentialExpression(
        paragraphs=(
            f"Every perturbation is compared with the control cells, gene by gene, by {test}. "
            "Click a column to sort, a perturbation to see its volcano plot.",
        ),
        result=found.result,
        perturbations=found.rows,
        alpha=found.alpha,
        on_target=on_target,
        figures=(hits_figure(found.rows, found.alpha),),
    )


def _methods(found: ScreenFiles, test: str) -> tuple[str, ...]:
    source = TESTS.get(found.result.method, ("", ""))[1].partition(". ")[0]
    texts = [f"Test: {test}. {source}." if source else f"Test: {test}."]
    texts.append(
        "Genes low in both arms are not tested. p-values are corrected by "
        f"{found.result.pvalue_correction} within each perturbation."
    )
    given = {
        name: value
        for name, value in found.parameters.items()
        if isinstance(value, (str, int, float)) and name not in ("engine", "labels")
    }
    if given:
        texts.append(
            "Parameters: " + ", ".join(f"{name} = {value}" for name, value in given.items()) + "."
        )
    tested = np.array([one.n_tested for one in found.rows])
    if len(tested):
        texts.append(f"Genes tested per perturbation: {int(np.median(tested)):,} in the median.")
    return tuple(texts)


def _code(found: ScreenFiles) -> str:
    name = found.result.result_path.name
    first = found.rows[0].perturbation if found.rows else "A"
    return (
        "import crispyx as cx\n\n"
        f'result = cx.de.load_result("{name}")\n'
        f'genes = cx.pl.rank_genes_groups_df("{name}", group={first!r})\n'
        f'cx.pl.volcano(data=result, group={first!r}, savepath="volcano.png")\n'
    )
