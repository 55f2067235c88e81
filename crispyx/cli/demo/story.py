"""What the demo's report says, in the words of the field."""

from __future__ import annotations

from crispyx._version import __version__
from crispyx.cli.demo.analysis import ALPHA, MODEL, Analysis
from crispyx.cli.demo.guide_story import guide_section
from crispyx.cli.demo.own_data import OWN_DATA
from crispyx.cli.demo.pictures import Pictures
from crispyx.cli.demo.words import findings, percent, plural
from crispyx.report import (
    DifferentialExpression,
    Fact,
    Figure,
    OutputFile,
    ReportContent,
    Section,
    Step,
    Table,
    guide_fits,
)

DOMINANT = 0.2
UNREAL = "No cell on this page was measured."
REFERENCES = (
    "Replogle JM, Norman TM, Xu A et al. (2020) Combinatorial single-cell CRISPR screens by direct "
    "guide RNA capture and targeted sequencing. Nature Biotechnology 38, 954-961. "
    "https://doi.org/10.1038/s41587-020-0470-y",
    "Braunger JM, Velten B (2024) Guide assignment in single-cell CRISPR screens using crispat. "
    "Bioinformatics 40, btae535. https://doi.org/10.1093/bioinformatics/btae535",
    "Mann HB, Whitney DR (1947) On a test of whether one of two random variables is stochastically "
    "larger than the other. Annals of Mathematical Statistics 18, 50-60. "
    "https://doi.org/10.1214/aoms/1177730491",
    "Benjamini Y, Hochberg Y (1995) Controlling the false discovery rate: a practical and powerful "
    "approach to multiple testing. Journal of the Royal Statistical Society B 57, 289-300. "
    "https://doi.org/10.1111/j.2517-6161.1995.tb02031.x",
)


def report_content(
    analysis: Analysis, pictures: Pictures, files: list[OutputFile]
) -> ReportContent:
    """Return the content of the report."""
    screen = analysis.screen
    title = (
        "A simulated CRISPR screen"
        if screen.simulated
        else "The CRISPRi screen of Schraivogel et al. (2020)"
    )
    return ReportContent(
        title=title,
        subtitle=(
            f"From the guide counts of {analysis.guide_counts.total:,} cells to the genes that "
            f"{plural(len(analysis.perturbations), 'perturbation')} change."
        ),
        notice=f"{_sentence(screen.reason)} {UNREAL}" if screen.simulated else "",
        facts=_facts(analysis),
        summary=findings(analysis),
        steps=_steps(analysis),
        guides=guide_section(analysis, pictures),
        guide_fits=guide_fits(analysis.calls),
        quality=_quality(analysis, pictures),
        expression=_expression(analysis),
        methods=_methods(analysis),
        references=(screen.dataset.citation, *REFERENCES),
        next_paragraphs=(
            "Put the names of your files and guides into these lines. Every step writes an "
            ".h5ad file beside its input that scanpy and anndata open as well; memory use "
            "stays bounded however many cells there are.",
        ),
        next_code=OWN_DATA,
        files=(*files, *pictures.files),
        version=__version__,
    )


def _facts(analysis: Analysis) -> tuple[Fact, ...]:
    return (
        Fact(f"{analysis.n_cells:,}", "cells compared"),
        Fact(f"{analysis.n_genes:,}", "genes"),
        Fact(f"{len(analysis.perturbations):,}", "perturbations"),
        Fact(f"{analysis.calls.n_vars:,}", "guides"),
        Fact(f"{analysis.labels[analysis.control]:,}", "control cells"),
        Fact(f"{len(analysis.lowered)} of {len(analysis.aimed)}", "own targets lowered"),
    )


def _steps(analysis: Analysis) -> tuple[Step, ...]:
    calls, joined = analysis.guide_counts, analysis.joined
    tested = sum(one.n_cells for one in analysis.perturbations)
    return (
        Step(calls.total, "cells with guide counts"),
        Step(
            calls.one,
            "cells with exactly one guide",
            f"left out: {calls.several:,} with several, {calls.none:,} with none",
        ),
        Step(
            joined.n_one_guide,
            "of them with expression data",
            f"not measured: {calls.one - joined.n_one_guide:,}",
        ),
        Step(
            analysis.n_cells,
            "cells after quality control",
            f"left out: {joined.n_one_guide - analysis.n_cells:,}",
        ),
        Step(
            len(analysis.perturbations),
            "perturbations tested",
            f"{tested:,} cells against {analysis.labels[analysis.control]:,} control cells",
        ),
    )


def _quality(analysis: Analysis, pictures: Pictures) -> Section:
    limits, quality = analysis.thresholds, analysis.quality
    n_genes = len(quality.gene_mask)
    usable = sum(analysis.labels_before.values())
    dropped = [label for label, kept in quality.perturbation_keep.items() if not kept]
    rows = (
        (
            "cells",
            f"at least {limits.min_genes} of {n_genes:,} genes detected, and a kept perturbation",
            usable,
            analysis.n_cells,
        ),
        (
            "perturbations and control",
            f"at least {limits.min_cells_per_perturbation} cells left",
            len(analysis.labels_before),
            len(analysis.labels),
        ),
        (
            "genes",
            f"detected in at least {limits.min_cells_per_gene} of the cells left",
            n_genes,
            analysis.n_genes,
        ),
    )
    removed = f"Perturbations left out: {', '.join(dropped)}." if dropped else ""
    genes = [
        str(gene)
        for gene, kept in zip(analysis.gene_names, quality.gene_mask, strict=True)
        if not kept
    ]
    if 0 < len(genes) <= 10:
        removed += f" {plural(len(genes), 'gene')} left out as too rare: {', '.join(genes)}."
    without_guide = (
        ", cells without exactly one guide included"
        if analysis.joined.n_cells > analysis.joined.n_one_guide
        else ""
    )
    return Section(
        paragraphs=(
            f"The limits suit a panel of {n_genes:,} genes: a cell must show a quarter of the "
            "genes, but not more than 100 of them; perturbations and genes need "
            f"{limits.min_cells_per_gene} cells, about where the normal approximation of the "
            "rank-sum test can be relied on.",
            *([removed.strip()] if removed else []),
        ),
        table=Table("What was kept", ("", "Condition", "Before", "After"), rows),
        figures=(
            Figure(
                svg=pictures.quality,
                caption=(
                    "Left: genes detected per cell. Right: cells in which each gene is detected, "
                    f"among the cells that were kept. Gray was removed{without_guide}."
                ),
                alternative=(
                    "Two histograms: genes per cell and cells per gene, with the limits "
                    f"{limits.min_genes} and {limits.min_cells_per_gene} marked"
                ),
            ),
        ),
    )


def _expression(analysis: Analysis) -> DifferentialExpression:
    gene, share = analysis.composition.gene, analysis.composition.share
    paragraphs = [
        f"Every perturbation is compared with the {analysis.labels[analysis.control]:,} control "
        f"cells ({analysis.control}), gene by gene, by Wilcoxon's rank-sum test on normalized "
        f"expression. {plural(analysis.n_hits, 'pair')} of perturbation and gene differ at adj "
        f"p ≤ {ALPHA:g}. Click a column to sort, a perturbation to see its volcano plot.",
    ]
    if share >= DOMINANT:
        paragraphs.append(
            f"Read raised genes with care: {gene} alone makes {percent(share)} of all counts. "
            "Normalization gives every cell the same total, so when a perturbation lowers "
            f"{gene}, all other genes take a larger share and look raised without being so."
        )
    on_target = [
        f"{plural(len(analysis.aimed), 'perturbation')} are aimed at a gene that is measured, "
        f"or at an enhancer of one. {len(analysis.lowered)} of them lower it at adj p ≤ "
        f"{ALPHA:g}; for {len(analysis.first)} it is the strongest change of all genes.",
    ]
    if analysis.screen.target_genes:
        on_target.append(
            "Perturbations that end in a letter are single guides against an enhancer: of "
            "GATA1, MYC, ZFPM2, and HS2, which drives HBE1."
        )
    return DifferentialExpression(
        paragraphs=tuple(paragraphs),
        result=analysis.result,
        perturbations=analysis.perturbations,
        alpha=ALPHA,
        on_target=tuple(on_target),
    )


def _methods(analysis: Analysis) -> tuple[str, ...]:
    limits, screen = analysis.thresholds, analysis.screen
    return (
        f"{_sentence(screen.reason)} {_sentence(screen.dataset.origin.partition(': ')[2])}",
        "Guide calls: a Poisson background and a Normal signal were fitted to the log2 counts of "
        "every guide by expectation maximization, with the priors of crispat, and a guide is "
        f"called where the posterior of the signal is above 0.8 (model “{MODEL}”; "
        "docs/methods/histogram_mixtures.md). Cells were matched to expression by barcode; "
        "cells without or with several guides have no perturbation and are in no comparison.",
        f"Quality control: cells with at least {limits.min_genes} genes, then perturbations "
        f"with at least {limits.min_cells_per_perturbation} such cells (the control is always "
        f"kept), then genes detected in at least {limits.min_cells_per_gene} of the cells left "
        "(docs/methods/qc.md).",
        "Normalization: the counts of every cell divided by their sum, times 10,000, then "
        "log(1 + x) (docs/methods/normalize.md).",
        "Test: two-sided Mann-Whitney U test of perturbed against control cells, normal "
        "approximation with tie correction, without continuity correction "
        "(docs/methods/rank_sum.md). Genes low in both arms are not tested "
        "(docs/methods/expression_filter.md). log2FC is the log2 ratio of mean normalized "
        "expression, back on the scale of counts. p-values are corrected by Benjamini-Hochberg "
        "within each perturbation (docs/methods/multiple_testing.md).",
    )


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
