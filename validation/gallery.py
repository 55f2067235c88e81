"""The gallery page: every figure, drawn from real screens, with the line that draws it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
COLUMN = "perturbation"
GUIDE = "CROPseq_dCas9_DS_CCNE2_+_95907328.23-P1P2"
INTRODUCTION = """\
# Gallery

Every figure from real screens: knock-outs by Papalexi et al. (Nat. Genet. 2021, 299 genes),
activation by Norman et al. (Science 2019, 500 genes) and guide counts by Schraivogel et al. (Nat.
Methods 2020). `make gallery` draws this page anew from the files in `CRISPYX_DATA_DIR`. All
functions take `ax=`, `show=` and `savepath=` (`save=` where scanpy draws), read results row by row
and never load a matrix.

```python
import crispyx as cx

logs = cx.pp.normalize_total_log1p("papalexi.h5ad")
result = cx.tl.rank_genes_groups(logs, perturbation_column="perturbation")
```
"""


@dataclass(frozen=True)
class Screens:
    """What the figures are drawn from.

    Attributes
    ----------
    counts : path
        The knock-out screen.
    logs : path
        The activation screen, log-normalized, with components and UMAP.
    result, activation : RankGenesGroupsResult
        Tests of the knock-out and of the activation screen.
    qc : QualityControlResult
        Quality control of the knock-out screen.
    energies : pandas.DataFrame
        Energy distances of the activation screen.
    scores, calls, comparison : any
        Guide counts: a fit, its calls, and two models compared.
    """

    counts: Path
    logs: Path
    result: Any
    activation: Any
    qc: Any
    energies: Any
    scores: Any
    calls: Any
    comparison: Any


@dataclass(frozen=True)
class Entry:
    """One figure: its name, what it shows, the line that draws it, and that line at work."""

    name: str
    caption: str
    code: str
    draw: Callable[[Any, Screens], Any]


ENTRIES = (
    Entry(
        "volcano",
        "Effect against significance; names keep clear of points and of each other.",
        'cx.pl.volcano(data=result, group="STAT1")',
        lambda pl, s: pl.volcano(data=s.result, group="STAT1"),
    ),
    Entry(
        "ma",
        "Effect against mean expression; counts are streamed.",
        'cx.pl.ma(data="papalexi.h5ad", de_result=result, group="STAT1")',
        lambda pl, s: pl.ma(data=s.counts, de_result=s.result, group="STAT1"),
    ),
    Entry(
        "top_genes_bar",
        "The genes one perturbation changes most.",
        'cx.pl.top_genes_bar(data=result, group="JAK2")',
        lambda pl, s: pl.top_genes_bar(data=s.result, group="JAK2"),
    ),
    Entry(
        "rank_genes_groups",
        "First genes of several perturbations, as scanpy draws them.",
        'cx.pl.rank_genes_groups(result, groups=["STAT1", "JAK2", "IRF1"])',
        lambda pl, s: pl.rank_genes_groups(
            s.result, groups=["STAT1", "JAK2", "IRF1"], n_genes=12, show=False
        ),
    ),
    Entry(
        "on_target",
        "What each perturbation does to its own gene: fold change, expressing cells, rank.",
        "cx.pl.on_target(result)",
        lambda pl, s: pl.on_target(s.result),
    ),
    Entry(
        "effect_heatmap",
        "Which perturbations act alike: correlated effects, clustered.",
        "cx.pl.effect_heatmap(activation)",
        lambda pl, s: pl.effect_heatmap(s.activation),
    ),
    Entry(
        "energy_distance",
        "How far each perturbation moves its cells, beside shuffled labels.",
        "cx.pl.energy_distance(cx.tl.energy_distance(logs, perturbation_column=...))",
        lambda pl, s: pl.energy_distance(s.energies),
    ),
    Entry(
        "overlap_heatmap",
        "Genes that perturbations have in common.",
        "cx.pl.overlap_heatmap(cx.compute_overlap(sets))",
        lambda pl, s: pl.overlap_heatmap(_overlap(pl, s.result)),
    ),
    Entry(
        "qc_perturbation_counts",
        "Cells of each perturbation, the control apart.",
        'cx.pl.qc_perturbation_counts(data="papalexi.h5ad", perturbation_column="perturbation")',
        lambda pl, s: pl.qc_perturbation_counts(data=s.counts, perturbation_column=COLUMN),
    ),
    Entry(
        "qc_summary",
        "What quality control keeps.",
        "cx.pl.qc_summary(qc)",
        lambda pl, s: pl.qc_summary(s.qc),
    ),
    Entry(
        "pca",
        "Cells in two components.",
        'cx.pl.pca(logs, color="ncounts")',
        lambda pl, s: pl.pca(s.logs, color="ncounts"),
    ),
    Entry(
        "pca_variance_ratio",
        "Share of the variance of each component.",
        "cx.pl.pca_variance_ratio(logs)",
        lambda pl, s: pl.pca_variance_ratio(s.logs),
    ),
    Entry(
        "pca_loadings",
        "Genes with the largest loadings.",
        "cx.pl.pca_loadings(logs)",
        lambda pl, s: pl.pca_loadings(s.logs),
    ),
    Entry(
        "umap",
        "Cells laid out by UMAP, some perturbations in color.",
        'cx.pl.umap(logs, color="perturbation", groups=["KLF1", "SGK1+TBX3"])',
        lambda pl, s: pl.umap(s.logs, color=COLUMN, groups=["KLF1", "SGK1+TBX3"]),
    ),
    Entry(
        "guide_fit",
        "Counts of one guide, what is fitted to them, and where calls begin.",
        f'cx.pl.guide_fit(cx.gd.score("guides.h5ad"), "{GUIDE}")',
        lambda pl, s: pl.guide_fit(s.scores, GUIDE),
    ),
    Entry(
        "guide_summary",
        "UMIs behind the calls, guides per cell, calls of every guide.",
        'cx.pl.guide_summary(cx.gd.assign("guides.h5ad"))',
        lambda pl, s: pl.guide_summary(s.calls),
    ),
    Entry(
        "guide_comparison",
        "How far guide models agree.",
        'cx.pl.guide_comparison(cx.gd.compare("guides.h5ad", models))',
        lambda pl, s: pl.guide_comparison(s.comparison),
    ),
)


def write_gallery(data: Path, docs: Path) -> Path:
    """Draw all figures into ``docs/gallery`` and write ``docs/gallery.md``; return the page."""
    import matplotlib as mpl

    mpl.use("Agg")
    import crispyx as cx

    folder = docs / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION]
    with TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        screens = prepare(data, Path(work))
        for entry in ENTRIES:
            save_small(figure_of(entry.draw(cx.pl, screens)), folder / f"{entry.name}.png")
            parts.append(
                f"## {entry.name}\n{entry.caption}\n\n```python\n{entry.code}\n```\n\n"
                f"![{entry.caption}](gallery/{entry.name}.png)\n"
            )
    page = docs / "gallery.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def prepare(data: Path, work: Path) -> Screens:
    """Run the analyses behind the figures."""
    import crispyx as cx

    counts = data / "papalexi_eccite_299genes.h5ad"
    logs = _logs(data / "norman2019_crispra_500hvg.h5ad", work, "norman")
    cx.pp.pca(logs, n_comps=20, show_progress=False)
    cx.pp.neighbors(logs, method="sklearn", show_progress=False)
    cx.tl.umap(logs)
    guides = data / "schraivogel_gRNA_counts.h5ad"
    return Screens(
        counts=counts,
        logs=logs,
        result=cx.wilcoxon_test(_logs(counts, work, "papalexi"), perturbation_column=COLUMN),
        activation=cx.wilcoxon_test(
            logs, perturbation_column=COLUMN, output_path=work / "norman_wilcoxon.h5ad"
        ),
        qc=cx.quality_control_summary(
            counts, perturbation_column=COLUMN, min_genes=50, min_cells_per_gene=100
        ),
        energies=cx.tl.energy_distance(
            logs, perturbation_column=COLUMN, n_permutations=100, show_progress=False
        ),
        scores=cx.gd.score(guides),
        calls=cx.gd.assign(guides),
        comparison=cx.gd.compare(guides, ["umi", "max", "ratio", "poisson_gauss"]),
    )


def _logs(counts: Path, work: Path, name: str) -> Path:
    import crispyx as cx

    output = work / f"{name}_logs.h5ad"
    cx.pp.normalize_total_log1p(counts, output, verbose=False)
    return output


def _overlap(pl: Any, result: Any) -> Any:
    import crispyx as cx

    groups = ["STAT1", "JAK2", "IFNGR1", "IFNGR2", "IRF1", "SMAD4", "CUL3", "BRD4"]
    tables = {group: pl.rank_genes_groups_df(result, group) for group in groups}
    return cx.compute_overlap(
        {group: set(table.query("pvals_adj <= 0.05")["names"]) for group, table in tables.items()}
    )


def figure_of(drawn: Any) -> Figure:
    """Return the figure behind what a plotting function returned."""
    import numpy as np

    if isinstance(drawn, dict):
        drawn = list(drawn.values())
    first = drawn if hasattr(drawn, "figure") else np.ravel(np.asarray(drawn, dtype=object))[0]
    return first.figure  # type: ignore[no-any-return]


def save_small(figure: Figure, path: Path) -> None:
    """Write a figure as it is, in the fewest bytes that hold every color."""
    from io import BytesIO

    from PIL import Image

    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI, bbox_inches="tight")
    Image.open(content).convert("RGB").save(path, optimize=True)
