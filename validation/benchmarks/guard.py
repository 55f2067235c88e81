"""Is anything slower than it was: ``python -m validation check``.

Seconds say nothing about another machine. Every case is therefore measured beside a plain
computation of the same result, in turns in the same process, one thread each, and what is kept is
the ratio of the two: the median over the turns, in CPU seconds, which other processes hardly move.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from crispyx._io.genes import group_genes
from crispyx._kernels.layout import CompressedBlock, GroupedGenes, Membership
from crispyx._stats.histogram_mixtures import fit_histogram
from crispyx._stats.mixtures import GuideColumns
from crispyx._stats.moments import comparison_arms
from crispyx._stats.multiple_testing import adjust_rows
from crispyx._stats.normalize import Scaling, scaled_values
from crispyx._stats.rank_sum import rank_sum_tests
from crispyx._stats.welch import welch_tests
from validation.benchmarks.tables import markdown_table

BASELINE = Path(__file__).with_name("baseline.json")
# A ratio this much above its baseline fails.
SLOWER = 1.25
TURNS = 9
# A turn of a case repeats it until this many CPU seconds are spent.
LEAST_SECONDS = 0.15
N_CELLS, N_GENES, N_GROUPS, DENSITY = 20_000, 200, 40, 0.1


class Timed(NamedTuple):
    """One case: what this project does, and a plain computation of the same."""

    ours: Callable[[], object]
    plain: Callable[[], object]


@cache
def expression() -> sp.csc_matrix:
    """Return log expression (N_CELLS, N_GENES), one value in ten above 0."""
    rng = np.random.default_rng(0)
    matrix = sp.random(N_CELLS, N_GENES, DENSITY, "csc", np.float32, rng)
    matrix.data = np.log1p(rng.geometric(0.6, matrix.nnz)).astype(np.float32)
    return matrix


@cache
def groups() -> np.ndarray:
    """Return the group of every cell (N_CELLS,), 0 the control."""
    return np.random.default_rng(1).integers(0, N_GROUPS, N_CELLS)


def block(matrix: sp.spmatrix) -> CompressedBlock:
    """Return a whole matrix as the block the kernels read."""
    return CompressedBlock(
        start=0,
        stop=len(matrix.indptr) - 1,
        values=matrix.data.astype(np.float32),
        minor=matrix.indices.astype(np.int32),
        ptr=matrix.indptr.astype(np.int64),
    )


@cache
def grouped() -> GroupedGenes:
    """Return the expression by gene and group."""
    return group_genes(block(expression()), Membership.from_labels(groups(), N_GROUPS), 1)


def plain_rank_sums() -> object:
    """Rank the control with one group at a time, gene by gene, as dense columns."""
    from scipy.stats import rankdata

    control = groups() == 0
    cells = control | (groups() == 1)
    dense = expression()[cells].toarray()
    treated = groups()[cells] == 1
    return rankdata(dense, axis=0)[treated].sum(axis=0)


def plain_moments() -> object:
    """Sum values and squares of every group by a product of sparse matrices."""
    member = sp.csr_matrix((np.ones(N_CELLS), (groups(), np.arange(N_CELLS))))
    x = expression().astype(np.float64)
    return member @ x, member @ x.multiply(x)


def plain_welch() -> object:
    """Take Student's tail of as many numbers as there are tests."""
    from scipy.special import stdtr

    rng = np.random.default_rng(2)
    return stdtr(rng.uniform(100, 900, 40_000), -np.abs(rng.normal(size=40_000)))


@cache
def pvalues() -> np.ndarray:
    """Return p-values (100, 4000)."""
    return np.random.default_rng(3).random((100, 4_000))


def plain_adjustment() -> object:
    """Order every row by NumPy and take running minima."""
    p = pvalues()
    order = np.argsort(p, axis=1)
    scaled = np.take_along_axis(p, order, 1) * p.shape[1] / np.arange(1, p.shape[1] + 1)
    return np.minimum.accumulate(scaled[:, ::-1], axis=1)


@cache
def rows() -> sp.csr_matrix:
    """Return counts by cell."""
    found = expression().tocsr()
    found.data = np.rint(np.expm1(found.data)).astype(np.float32)
    return found


def plain_normalization() -> object:
    """Scale and take logarithms by NumPy, in float64."""
    matrix = rows()
    total = np.add.reduceat(matrix.data.astype(np.float64), matrix.indptr[:-1])
    return np.log1p(matrix.data * np.repeat(1e4 / total, np.diff(matrix.indptr)))


@cache
def guide_columns() -> GuideColumns:
    """Return guide counts of 20,000 cells and 30 guides, one guide in each cell."""
    rng = np.random.default_rng(4)
    counts = rng.poisson(0.2, (N_CELLS, 30))
    counts[np.arange(N_CELLS), rng.integers(0, 30, N_CELLS)] += rng.negative_binomial(
        3, 3 / 60, N_CELLS
    )
    matrix = sp.csc_matrix(counts)
    ptr = matrix.indptr.astype(np.int64)
    return GuideColumns(N_CELLS, ptr, matrix.indices, matrix.data.astype(np.int64))


def plain_mixture() -> object:
    """Run a hundred steps of EM of two Normals on the distinct counts of every guide."""
    columns, found = guide_columns(), []
    for g in range(len(columns.ptr) - 1):
        values, n = np.unique(
            columns.counts[columns.ptr[g] : columns.ptr[g + 1]], return_counts=True
        )
        u = np.log10(values + 1.0)
        low, high, sd, w = u.min(), u.max(), u.std() + 0.1, 0.5
        for _ in range(100):
            a = w * np.exp(-(((u - high) / sd) ** 2) / 2)
            b = (1 - w) * np.exp(-(((u - low) / sd) ** 2) / 2)
            r = n * a / (a + b + 1e-300)
            high, low = r @ u / r.sum(), (n - r) @ u / (n - r).sum()
            w = r.sum() / n.sum()
        found.append(high)
    return found


def cases() -> dict[str, Timed]:
    """Return the cases by name."""
    sizes = np.asarray(rows().sum(axis=1), dtype=float).ravel()
    scaling = Scaling(normalize=True, log1p=True, target_sum=1e4)
    arms = comparison_arms(grouped(), "compiled")
    membership = Membership.from_labels(groups(), N_GROUPS)
    return {
        "grouping": Timed(
            lambda: group_genes(block(expression()), membership, 1), lambda: expression().tocsr()
        ),
        "rank_sum": Timed(lambda: rank_sum_tests(grouped(), True, "compiled"), plain_rank_sums),
        "moments": Timed(lambda: comparison_arms(grouped(), "compiled"), plain_moments),
        "welch": Timed(lambda: welch_tests(grouped(), *arms, "compiled"), plain_welch),
        "multiple_testing": Timed(
            lambda: adjust_rows(pvalues().copy(), "benjamini-hochberg", "compiled"),
            plain_adjustment,
        ),
        "normalize": Timed(
            lambda: scaled_values(block(rows()), sizes, N_GENES, scaling, "compiled"),
            plain_normalization,
        ),
        "gauss": Timed(lambda: fit_histogram(guide_columns(), "gauss", "compiled"), plain_mixture),
        "poisson_gauss": Timed(
            lambda: fit_histogram(guide_columns(), "poisson_gauss", "compiled"), plain_mixture
        ),
    }


def ratio(timed: Timed, turns: int = TURNS) -> float:
    """Return the median over turns of our CPU time / that of the plain computation."""
    for compute in timed:
        compute()
    found = []
    for turn in range(turns):
        order = timed if turn % 2 == 0 else timed[::-1]
        seconds = {id(compute): _seconds(compute) for compute in order}
        found.append(seconds[id(timed.ours)] / seconds[id(timed.plain)])
    return median(found)


def _seconds(compute: Callable[[], object]) -> float:
    """Return CPU seconds of one call, of as many calls as make a long enough turn."""
    n, start = 0, time.process_time()
    while (spent := time.process_time() - start) < LEAST_SECONDS:
        compute()
        n += 1
    return spent / n


def verdicts(now: dict[str, float], before: dict[str, float]) -> dict[str, str]:
    """Return ``"slower"``, ``"ok"`` or ``"new"`` for every case."""
    return {
        name: "new" if name not in before else "slower" if x > SLOWER * before[name] else "ok"
        for name, x in now.items()
    }


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``check`` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check", help="fail when a kernel is more than 25 %% slower than its baseline"
    )
    parser.add_argument("--update", action="store_true", help="make this run the baseline")
    parser.set_defaults(run=check)
    return parser


def check(options: argparse.Namespace) -> int:
    """Measure every case; the exit code is the number that is slower than its baseline."""
    timed = cases()
    now = {name: ratio(case) for name, case in timed.items()}
    before = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.is_file() else {}
    found = verdicts(now, before)
    for name in [name for name, word in found.items() if word == "slower"]:
        # Once more, for longer: a machine that was busy must not fail anyone.
        now[name] = min(now[name], ratio(timed[name], 3 * TURNS))
    found = verdicts(now, before)
    table = [
        [name, f"{x:.3f}", f"{before.get(name, float('nan')):.3f}", found[name]]
        for name, x in now.items()
    ]
    print(markdown_table(("case", "ours / plain", "baseline", "result"), table))
    if options.update:
        text = json.dumps({name: round(x, 4) for name, x in now.items()}, indent=1)
        BASELINE.write_text(text + "\n", encoding="utf-8")
        return 0
    return sum(word == "slower" for word in found.values())
