"""The gallery page: every figure, drawn from real screens by the very lines beside it."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
# What the lines of the page call the real screens.
FILES = {
    "papalexi.h5ad": "papalexi_eccite_299genes.h5ad",
    "norman.h5ad": "norman2019_crispra_500hvg.h5ad",
    "guides.h5ad": "schraivogel_gRNA_counts.h5ad",
}
PREPARATION = """\
import crispyx as cx

screen = cx.pp.normalize_total_log1p("papalexi.h5ad")
result = cx.tl.rank_genes_groups(screen, perturbation_column="perturbation")
activated = cx.pp.normalize_total_log1p("norman.h5ad", data_name="norman")
activation = cx.tl.rank_genes_groups(
    activated, perturbation_column="perturbation", data_name="norman"
)
cx.pp.pca(activated, n_comps=20)
cx.pp.neighbors(activated, method="sklearn")
cx.tl.umap(activated)
"""
INTRODUCTION = f"""\
# Gallery

Every figure from real screens: knock-outs by Papalexi et al. (Nat. Genet. 2021, 299 genes),
activation by Norman et al. (Science 2019, 500 genes) and guide counts by Schraivogel et al. (Nat.
Methods 2020). `make gallery` draws this page anew from the files in `CRISPYX_DATA_DIR`, by the very
lines it shows. All functions take `ax=` or `show=`, most `savepath=` (`save=` where scanpy draws);
they read results row by row and never load a matrix. Up and down are orange and blue, which readers
with any color vision tell apart. With thousands of perturbations figures stay readable: names go,
points become a picture, bars one shape.

The figures share these lines:

```python
{PREPARATION}```
"""


@dataclass(frozen=True)
class Entry:
    """One figure: its name, what it shows, and the lines that draw it."""

    name: str
    caption: str
    code: str


ENTRIES = (
    Entry(
        "volcano",
        "Effect against significance; names keep clear of points and of each other.",
        'cx.pl.volcano(data=result, group="STAT1")',
    ),
    Entry(
        "ma",
        "Effect against mean expression; counts are streamed.",
        'cx.pl.ma(data="papalexi.h5ad", de_result=result, group="STAT1")',
    ),
    Entry(
        "top_genes_bar",
        "The genes one perturbation changes most.",
        'cx.pl.top_genes_bar(data=result, group="JAK2")',
    ),
    Entry(
        "rank_genes_groups",
        "First genes of several perturbations, as scanpy draws them.",
        'groups = ["STAT1", "JAK2", "IRF1"]\n'
        "cx.pl.rank_genes_groups(result, groups, n_genes=12, show=False)",
    ),
    Entry(
        "on_target",
        "What each perturbation does to its own gene: fold change, expressing cells, rank.",
        "cx.pl.on_target(result)",
    ),
    Entry(
        "effect_heatmap",
        "Which perturbations act alike: correlated effects, clustered.",
        "cx.pl.effect_heatmap(activation)",
    ),
    Entry(
        "energy_distance",
        "How far each perturbation moves its cells, beside shuffled labels.",
        'moved = cx.tl.energy_distance(activated, perturbation_column="perturbation")\n'
        "cx.pl.energy_distance(moved)",
    ),
    Entry(
        "overlap_heatmap",
        "Genes that perturbations have in common.",
        'named = ["STAT1", "JAK2", "IFNGR1", "IFNGR2", "IRF1", "SMAD4", "CUL3", "BRD4"]\n'
        "tables = {group: cx.pl.rank_genes_groups_df(result, group) for group in named}\n"
        'sets = {g: set(t.query("pvals_adj <= 0.05")["names"]) for g, t in tables.items()}\n'
        "cx.pl.overlap_heatmap(cx.compute_overlap(sets))",
    ),
    Entry(
        "qc_perturbation_counts",
        "Cells of each perturbation, the control apart.",
        'cx.pl.qc_perturbation_counts(data="papalexi.h5ad", perturbation_column="perturbation")',
    ),
    Entry(
        "qc_summary",
        "What quality control keeps.",
        "qc = cx.quality_control_summary(\n"
        '    "papalexi.h5ad",\n'
        '    perturbation_column="perturbation",\n'
        "    min_genes=50,\n"
        "    min_cells_per_gene=100,\n"
        ")\n"
        "cx.pl.qc_summary(qc)",
    ),
    Entry(
        "pca",
        "Cells in two components.",
        'cx.pl.pca(activated, color="ncounts")',
    ),
    Entry(
        "pca_variance_ratio",
        "Share of the variance of each component.",
        "cx.pl.pca_variance_ratio(activated)",
    ),
    Entry(
        "pca_loadings",
        "Genes with the largest loadings.",
        "cx.pl.pca_loadings(activated)",
    ),
    Entry(
        "umap",
        "Cells laid out by UMAP, some perturbations in color.",
        'cx.pl.umap(activated, color="perturbation", groups=["KLF1", "SGK1+TBX3"])',
    ),
    Entry(
        "guide_fit",
        "Counts of one guide, what is fitted to them, and where calls begin.",
        'scores = cx.gd.score("guides.h5ad")\ncx.pl.guide_fit(scores, scores.guides[0])',
    ),
    Entry(
        "guide_summary",
        "UMIs behind the calls, guides per cell, calls of every guide.",
        'cx.pl.guide_summary(cx.gd.assign("guides.h5ad"))',
    ),
    Entry(
        "guide_comparison",
        "How far guide models agree.",
        'models = ["umi", "max", "ratio", "poisson_gauss"]\n'
        'cx.pl.guide_comparison(cx.gd.compare("guides.h5ad", models))',
    ),
    Entry(
        "profiler",
        "Seconds of the steps of a script.",
        "from crispyx.profiling import TimingProfiler\n\n"
        "with TimingProfiler(enabled=True) as profiler:\n"
        '    profiler.start("t-test")\n'
        '    cx.t_test(screen, perturbation_column="perturbation")\n'
        '    profiler.stop("t-test")\n'
        '    profiler.start("rank sums")\n'
        '    cx.wilcoxon_test(screen, perturbation_column="perturbation", force=True)\n'
        '    profiler.stop("rank sums")\n'
        "profiler.plot_timeline()",
    ),
)


def write_gallery(data: Path, docs: Path) -> Path:
    """Draw all figures into ``docs/gallery`` and write ``docs/gallery.md``; return the page."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    folder = (docs / "gallery").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION]
    names: dict[str, Any] = {}
    with screens_at_hand(data):
        run(PREPARATION, names)
        for entry in ENTRIES:
            save_small(figure_of(run(entry.code, names)), folder / f"{entry.name}.png")
            plt.close("all")
            parts.append(
                f"## {entry.name}\n{entry.caption}\n\n```python\n{entry.code}\n```\n\n"
                f"![{entry.caption}](gallery/{entry.name}.png)\n"
            )
    page = docs / "gallery.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


@contextmanager
def screens_at_hand(data: Path) -> Iterator[None]:
    """Work in a folder of its own, with copies of the screens under the names of the page."""
    before = Path.cwd()
    source = data.resolve()
    with TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, original in FILES.items():
            shutil.copy(source / original, Path(work) / name)
        os.chdir(work)
        try:
            yield
        finally:
            os.chdir(before)


def run(code: str, names: dict[str, Any]) -> Any:
    """Run lines of the page and return the value of the last one."""
    import ast

    tree = ast.parse(code)
    last = tree.body.pop()
    exec(compile(tree, "gallery", "exec"), names)
    if not isinstance(last, ast.Expr):
        raise TypeError(f"the last line is no figure: {ast.unparse(last)}")
    return eval(compile(ast.Expression(last.value), "gallery", "eval"), names)


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
