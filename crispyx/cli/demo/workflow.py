"""The steps of the demo, in order."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crispyx._io.atomic import atomic_path
from crispyx._io.writer import write_anndata
from crispyx.cli.demo.analysis import (
    ALPHA,
    COMPARED,
    MODEL,
    Analysis,
    Composition,
    GuideCounts,
    PlantedEffects,
    Thresholds,
    thresholds_for,
)
from crispyx.cli.demo.outputs import OutputFolder
from crispyx.cli.demo.pictures import draw_pictures
from crispyx.cli.demo.screen import ChosenScreen, choose_screen
from crispyx.cli.demo.story import report_content
from crispyx.cli.demo.tables import write_tables
from crispyx.data import AnnData, load_obs, normalize_total_log1p
from crispyx.de import RankGenesGroupsResult, wilcoxon_test
from crispyx.errors import CrispyxWarning
from crispyx.guides import (
    Comparison,
    ScoreResult,
    add_to,
    assign,
    compare,
    join_summary,
    moi,
    score,
)
from crispyx.qc import QualityControlResult, quality_control_summary
from crispyx.report import PerturbationSummary, summarize_perturbations, write_report

if TYPE_CHECKING:
    import anndata

Say = Callable[[str], None]
COLUMN = "perturbation"
FILTERED = "data/crispyx_filtered.h5ad"
N_STEPS = 8


@dataclass(frozen=True)
class DemoOptions:
    """Where the demo writes, what data it takes, and whether it may replace strangers' files."""

    output: Path
    data: str = "auto"
    force: bool = False


@dataclass(frozen=True)
class DemoOutcome:
    """What was found, where it is, and how long it took."""

    analysis: Analysis
    folder: Path
    seconds: float


class _Steps:
    def __init__(self, say: Say) -> None:
        self._say = say
        self._number = 0

    @contextmanager
    def __call__(self, text: str) -> Iterator[None]:
        self._number += 1
        self._say(f"[{self._number}/{N_STEPS}] {text}")
        start = time.perf_counter()
        yield
        self._say(f"      {time.perf_counter() - start:.1f} s")


def run_demo(options: DemoOptions, say: Say = lambda text: None) -> DemoOutcome:
    """Go from guide counts to a report on one screen.

    Parameters
    ----------
    options : DemoOptions
        Output folder and choice of data.
    say : callable
        Told about every step.

    Returns
    -------
    DemoOutcome

    Raises
    ------
    CrispyxError
        The data cannot be had or used, or a file of someone else's is in the way.
    """
    start = time.perf_counter()
    folder = OutputFolder(options.output, force=options.force)
    step = _Steps(say)
    with step("Getting the screen"):
        screen = choose_screen(options.data, lambda: _simulated_folder(folder))
        say(f"      {screen.reason}")
    analysis = _analyze(screen, folder, step)
    with step("Drawing plots"):
        pictures = draw_pictures(analysis, folder)
    with step("Writing tables and the report"):
        files = write_tables(analysis, folder)
        content = report_content(analysis, pictures, files)
        write_report(folder.path("report.html"), content)
    folder.finish()
    return DemoOutcome(analysis, folder.root, time.perf_counter() - start)


def _simulated_folder(folder: OutputFolder) -> Path:
    for name in ("guides", "truth"):
        folder.path(f"data/simulated/{name}.h5ad")
    return folder.path("data/simulated/expression.h5ad").parent


def _analyze(screen: ChosenScreen, folder: OutputFolder, step: _Steps) -> Analysis:
    control = str(screen.dataset.control_label)
    with step(f"Calling guides: a mixture fitted to every guide ({MODEL})"):
        calls = assign(screen.dataset.guides, MODEL)
        with atomic_path(folder.path("data/guide_calls.h5ad")) as work:
            write_anndata(calls, work)
        scores, comparison = _judge(screen)
    with step("Joining the calls with expression"):
        joined = add_to(
            screen.dataset.expression,
            calls,
            targets=screen.dataset.guide_to_target,
            control_label=control,
            output_path=folder.path("data/expression_with_guides.h5ad"),
            overwrite=True,
            force=True,
        )
    with step("Quality control"):
        thresholds = thresholds_for(joined.n_vars)
        quality = _filter(joined, control, thresholds, folder)
    filtered = AnnData(folder.path(FILTERED))
    result = _compare(filtered, control, folder, step)
    labels = _labels(filtered)
    perturbations = summarize_perturbations(
        result, labels, target_genes=screen.target_genes, alpha=ALPHA
    )
    return Analysis(
        screen=screen,
        calls=calls,
        scores=scores,
        multiplicity=moi(calls),
        comparison=comparison,
        guide_counts=_guide_counts(calls),
        joined=join_summary(joined),
        thresholds=thresholds,
        gene_names=[str(gene) for gene in joined.var_names],
        quality=quality,
        labels_before=_labels(joined),
        labels=labels,
        composition=_composition(filtered),
        result=result,
        perturbations=_ranked(perturbations),
        planted=_planted(screen, result),
    )


def _judge(screen: ChosenScreen) -> tuple[ScoreResult, Comparison]:
    """Return the fits behind the calls, and how far other models agree with them."""
    with warnings.catch_warnings():
        # The calls themselves have said it already.
        warnings.simplefilter("ignore", CrispyxWarning)
        scores = score(screen.dataset.guides, MODEL)
        return scores, compare(screen.dataset.guides, models=list(COMPARED))


def _filter(
    joined: AnnData, control: str, thresholds: Thresholds, folder: OutputFolder
) -> QualityControlResult:
    return quality_control_summary(
        joined,
        min_genes=thresholds.min_genes,
        min_cells_per_perturbation=thresholds.min_cells_per_perturbation,
        min_cells_per_gene=thresholds.min_cells_per_gene,
        perturbation_column=COLUMN,
        control_label=control,
        output_path=folder.path(FILTERED),
        force=True,
    )


def _compare(
    filtered: AnnData, control: str, folder: OutputFolder, step: _Steps
) -> RankGenesGroupsResult:
    with step("Normalizing: counts per 10,000, then log(1 + x)"):
        output = folder.path("data/crispyx_normalized_log1p.h5ad")
        normalized = normalize_total_log1p(filtered, output, verbose=False, force=True)
    with step("Testing every perturbation against the control (Wilcoxon)"):
        return wilcoxon_test(
            normalized,
            perturbation_column=COLUMN,
            control_label=control,
            output_path=folder.path("data/crispyx_wilcoxon.h5ad"),
            force=True,
        )


def _labels(data: AnnData) -> dict[str, int]:
    counts = load_obs(data)[COLUMN].value_counts()
    return {str(label): int(count) for label, count in counts.items() if count}


def _guide_counts(calls: anndata.AnnData) -> GuideCounts:
    several = int(calls.obs["is_multi_infected"].sum())
    none = int(calls.obs["is_unassigned"].sum())
    return GuideCounts(none=none, one=calls.n_obs - none - several, several=several)


def _composition(filtered: AnnData) -> Composition:
    totals = np.asarray(filtered.to_memory().X.sum(axis=0)).ravel()
    top = int(np.argmax(totals))
    return Composition(str(filtered.var_names[top]), float(totals[top] / totals.sum()))


def _ranked(rows: list[PerturbationSummary]) -> list[PerturbationSummary]:
    return sorted(rows, key=lambda one: (-one.n_hits, one.top_pvalue_adj))


def _planted(screen: ChosenScreen, result: RankGenesGroupsResult) -> PlantedEffects | None:
    if screen.dataset.truth is None:
        return None
    import anndata

    truth = anndata.read_h5ad(screen.dataset.truth)
    effects = truth[result.groups, list(result.genes)].X.toarray()
    hits = result.pvalues_adj <= ALPHA
    return PlantedEffects(int(hits.sum()), int((hits & (effects != 0)).sum()))
