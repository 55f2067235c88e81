"""Compare the two ways of shrinking fold changes, by the expression of the gene.

    python -m validation.shrinkage_methods                                     # simulated counts
    python -m validation.shrinkage_methods --screen papalexi.h5ad norman.h5ad --column perturbation

The test is run with its documented defaults but for the low-expression filter, which is switched
off. Where the truth is known, the error of the fitted and of both shrunken fold changes is shown.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import spearmanr

import crispyx as cx
from crispyx.de.nb_stages import SILENT_ARM, TESTED
from crispyx.errors import CrispyxWarning
from validation.benchmarks.shrinkage import COLUMN, EVERY_GENE

EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, np.inf)


def simulated_screen(path: Path, seed: int) -> np.ndarray:
    """Write 1,500 control cells and 3 x 200 perturbed ones; return true log2 effects."""
    rng = np.random.default_rng(seed)
    n_genes, labels = 1200, np.repeat(["control", "A", "B", "C"], [1500, 200, 200, 200])
    effects = np.where(rng.random((4, n_genes)) < 0.2, rng.normal(0, 1, (4, n_genes)), 0)
    effects[0] = 0
    group = pd.factorize(labels)[0]
    mean = np.exp(rng.normal(-2, 1.8, n_genes))
    alpha = np.exp(rng.normal(np.log(0.25), 0.6, n_genes)) + 0.02 / mean
    depth = np.exp(rng.normal(0, 0.35, labels.size))
    mu = depth[:, None] * mean * np.exp2(effects[group])
    counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(np.float32)
    obs = pd.DataFrame({COLUMN: labels}, index=[f"c{i}" for i in range(labels.size)])
    anndata.AnnData(sparse.csr_matrix(counts), obs=obs).write_h5ad(path)
    return effects[1:]


def rows(path: Path, column: str, folder: Path, truth: np.ndarray | None) -> Iterator[str]:
    """Yield one line for every bin of expression."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        fitted = cx.nb_glm_test(
            path, perturbation_column=column, output_path=folder / "nb.h5ad", **EVERY_GENE
        ).result_path
    tables = {}
    for method in ("stats", "full"):
        output = folder / f"{method}.h5ad"
        found = cx.de.shrink_lfc(fitted, method=method, output_path=output).result_path
        tables[method] = np.asarray(anndata.read_h5ad(found).X)
    before = anndata.read_h5ad(fitted)
    raw, mean = np.asarray(before.X), np.exp(np.asarray(before.layers["intercept"]))
    used = np.isin(before.layers["status"], (TESTED, SILENT_ARM))
    for low, high in pairwise(EDGES):
        here = used & (mean >= low) & (mean < high)
        if here.sum() < 20:
            continue
        stats, full, fit = tables["stats"][here], tables["full"][here], raw[here]
        cells = [
            f"{low:g} to {high:g}",
            f"{here.sum()}",
            f"{spearmanr(stats, full).statistic:.3f}",
            f"{np.median(np.abs(stats - full)):.4f}",
            f"{np.quantile(np.abs(stats - full), 0.99):.3f}",
            f"{int(np.sum(np.abs(full) > np.abs(fit) + 1e-6))}",
        ]
        if truth is not None:
            cells += [
                f"{np.sqrt(np.mean((value - truth[here]) ** 2)):.3f}"
                for value in (fit, stats, full)
            ]
        yield "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--screen", type=Path, nargs="+", help="h5ad files of counts")
    parser.add_argument("--column", default=COLUMN, help="obs column of labels")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    head = ["mean", "pairs", "rank correlation", "median difference", "99 %", "larger than fitted"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        if asked.screen is None:
            truth = simulated_screen(folder / "screen.h5ad", asked.seed)
            head += ["error fitted", "stats", "full"]
            show(head, rows(folder / "screen.h5ad", COLUMN, folder, truth))
            return
        for number, path in enumerate(asked.screen):
            print(f"{path.stem}\n")
            (folder / str(number)).mkdir()
            show(head, rows(path, asked.column, folder / str(number), None))


def show(head: list[str], lines: Iterator[str]) -> None:
    """Print one table."""
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    print(*lines, "", sep="\n")


if __name__ == "__main__":
    main()
