"""The findings in plain sentences, for the report and for the terminal."""

from __future__ import annotations

from crispyx.cli.demo.analysis import ALPHA, Analysis
from crispyx.report import PerturbationSummary
from crispyx.report.numbers import lfc_text, p_text

# The guides against these two promoters silence their gene in nearly every cell.
KNOWN = ("DSCC1", "STK3")
N_STRONGEST = 3


def plural(n: int, word: str) -> str:
    """Return ``1 gene``, ``2 genes``."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def percent(part: float, whole: float = 1.0) -> str:
    """Return a share in percent."""
    return f"{100 * part / whole:.1f}\u00a0%" if whole else "-"


def findings(analysis: Analysis) -> list[str]:
    """Return what was found, one point each."""
    counts = analysis.guide_counts
    changing = sum(one.n_hits > 0 for one in analysis.perturbations)
    n = len(analysis.perturbations)
    points = [
        f"{counts.one:,} of {counts.total:,} cells ({percent(counts.one, counts.total)}) carry "
        f"exactly one guide. {counts.several:,} with several guides and {counts.none:,} without "
        "any were left out.",
        f"{analysis.n_cells:,} cells, {analysis.n_genes:,} genes and "
        f"{plural(n, 'perturbation')} passed quality control; "
        f"{analysis.labels[analysis.control]:,} control cells serve for comparison.",
        f"{changing} of {plural(n, 'perturbation')} change at least one gene, "
        f"{plural(analysis.n_hits, 'change')} in all at adj p ≤ {ALPHA:g}. "
        f"The most changes: {_strongest(analysis)}.",
        on_target(analysis),
    ]
    if analysis.planted is not None:
        found = analysis.planted
        points.append(
            f"The simulation knows the truth: {found.n_planted:,} of the {found.n_hits:,} "
            f"changes found ({percent(found.n_planted, found.n_hits)}) were planted. The others "
            "are chance, or slight shifts of many genes that follow when an abundant gene "
            "changes its share of the counts."
        )
    else:
        points.extend(known_targets(analysis))
    return points


def on_target(analysis: Analysis) -> str:
    """Say how many perturbations lower their own target."""
    aimed, lowered, first = len(analysis.aimed), len(analysis.lowered), len(analysis.first)
    return (
        f"{lowered} of {plural(aimed, 'perturbation')} whose target is measured lower it; for "
        f"{first} it is the strongest change of all genes."
    )


def known_targets(analysis: Analysis) -> list[str]:
    """Return the check against what is known of the real screen."""
    found = [one for one in analysis.perturbations if one.perturbation in KNOWN]
    if not found:
        return []
    parts = [
        _known(one, analysis.n_genes) for one in sorted(found, key=lambda one: one.perturbation)
    ]
    return [f"Known effects come out as they should: {'; '.join(parts)}."]


def _known(one: PerturbationSummary, n_genes: int) -> str:
    target = one.target
    if target is None:
        return f"{one.perturbation} is not measured"
    return (
        f"guides against {one.perturbation} change {target.gene} by log2FC "
        f"{lfc_text(target.logfoldchange)} (adj p {p_text(target.pvalue_adj)}, rank "
        f"{target.rank} of {n_genes:,} genes)"
    )


def _strongest(analysis: Analysis) -> str:
    top = analysis.strongest[:N_STRONGEST]
    return ", ".join(f"{one.perturbation} ({plural(one.n_hits, 'gene')})" for one in top)
