"""What the report says of guide calls."""

from __future__ import annotations

import numpy as np

from crispyx.cli.demo.analysis import MODEL, Analysis
from crispyx.cli.demo.pictures import Pictures
from crispyx.cli.demo.words import percent, plural
from crispyx.report import Figure, Section, Table


def guide_section(analysis: Analysis, pictures: Pictures) -> Section:
    """Return paragraphs, figures and the table of guides per cell."""
    counts = analysis.guide_counts
    rows = (
        ("no guide", counts.none, percent(counts.none, counts.total), "left out"),
        ("exactly one guide", counts.one, percent(counts.one, counts.total), "used"),
        ("several guides", counts.several, percent(counts.several, counts.total), "left out"),
    )
    return Section(
        paragraphs=(
            "Every cell holds a few stray UMIs of guides it does not carry: ambient RNA, or reads "
            "given to the wrong cell. A mixture of two parts, background and signal, is fitted to "
            f"the counts of each guide (model {MODEL}), so that every guide has a threshold of its "
            "own: it is called in a cell where its count belongs to the signal with a posterior "
            "above 0.8. Only cells with exactly one guide go on: with several, an effect cannot be "
            "ascribed to one of them.",
            _judgement(analysis),
        ),
        table=Table("Guides per cell", ("Cells with", "Cells", "Share", "In the analysis"), rows),
        figures=(
            _summary(analysis, pictures),
            _fits(pictures),
            _comparison(analysis, pictures),
        ),
    )


def _judgement(analysis: Analysis) -> str:
    n_guides, doubtful = analysis.calls.n_vars, analysis.doubtful_guides
    fits = (
        f"All {plural(n_guides, 'guide')} have a reliable fit."
        if not doubtful
        else f"{n_guides - doubtful:,} of {plural(n_guides, 'guide')} have a reliable fit; the "
        "others are called from 5 UMIs."
    )
    return (
        f"{fits} By the fits themselves, {percent(analysis.expected_false)} of the calls are "
        "expected to be false; that holds as far as the two parts describe the counts. "
        f"{_multiplicity(analysis)}"
    )


def _multiplicity(analysis: Analysis) -> str:
    estimate = analysis.multiplicity
    if not np.isfinite(estimate.expected.to_numpy()).all():
        return (
            "No multiplicity of infection explains the number of cells without a guide: many of "
            "them were infected with none, or their guide was missed."
        )
    return (
        "The numbers of guides per cell are held against those of infections that happen "
        f"independently (the marks in the figure): a multiplicity of infection of "
        f"{estimate.moi:.2f}, with {percent(estimate.capture)} of the guides in a cell seen. More "
        "cells with several guides than expected point to doublets."
    )


def _summary(analysis: Analysis, pictures: Pictures) -> Figure:
    counts = analysis.guide_counts
    return Figure(
        svg=pictures.guide_calls,
        caption=(
            "Top left: UMIs of the called guides; a clear hump to the right of the dashed line, "
            "the threshold of the median guide, means that calls hardly depend on it. Top right: "
            "number of guides called per cell. Bottom left: cells of every guide; very uneven "
            "heights point to an uneven guide pool. Bottom right: of the cells with a UMI of the "
            "guide, the share that is called; the rest is taken for background."
        ),
        alternative=(
            "Four charts: UMIs of the called guides, guides called per cell (none "
            f"{counts.none:,}, one {counts.one:,}, several {counts.several:,}), cells per guide, "
            "and the called fraction of each guide"
        ),
    )


def _fits(pictures: Pictures) -> Figure:
    what = (
        f"A guide with a middling number of calls ({pictures.fitted[0]}) and the one whose calls "
        f"are the least certain ({pictures.fitted[1]})."
        if len(pictures.fitted) > 1
        else f"The guide {pictures.fitted[0]}."
    )
    return Figure(
        svg=pictures.guide_fits,
        caption=(
            f"{what} Bars: cells with a count of the guide, called ones in color. Lines: the cells "
            "that background and signal expect. Where a line misses the bars, the posterior is to "
            "be read with care."
        ),
        alternative=(
            f"Histograms of the counts of {' and '.join(pictures.fitted)} with the two parts of "
            "the fitted mixture"
        ),
    )


def _comparison(analysis: Analysis, pictures: Pictures) -> Figure:
    found = analysis.comparison
    others = found.agreement.loc[MODEL].drop(MODEL)
    return Figure(
        svg=pictures.guide_comparison,
        caption=(
            "The same counts called by other models. Left: of the pairs of cell and guide that "
            "either of two models calls, the share that both call. Right: calls of each model. "
            f"With {MODEL}, {others.idxmax()} agrees most ({others.max():.3f}) and "
            f"{others.idxmin()} least ({others.min():.3f})."
        ),
        alternative=(
            f"Agreement of {MODEL} with "
            + ", ".join(f"{model} {value:.3f}" for model, value in others.items())
        ),
    )
