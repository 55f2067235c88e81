"""Guide calls: crispat's published ones, and crispat itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from validation.benchmarks.cases import CRISPAT_RULE, PUBLISHED_RULE
from validation.benchmarks.guide_sets import published_calls
from validation.benchmarks.tools.crispat import MODELS as FUNCTIONS
from validation.parity.check import Check
from validation.parity.ours import by_engine, called_pairs, output_folder
from validation.parity.screens import guides, n_guides
from validation.parity.suites import Bench, Case
from validation.parity.suites.guide_calls import calls_check, pair_numbers

METHOD = {
    "umi": "guide_rules",
    "max": "guide_rules",
    "ratio": "guide_rules",
    "quantiles": "guide_rules",
    "poisson_gauss": "histogram_mixtures",
    "gauss": "histogram_mixtures",
    "poisson": "depth_mixtures",
    "neg_binomial": "depth_mixtures",
    "binomial": "depth_mixtures",
    "beta2": "beta_mixtures",
    "beta3": "beta_mixtures",
}
# Models whose definition takes minutes on the whole screen: that is compared on fewer guides.
WITHOUT_REFERENCE = ("beta2", "beta3")
# Guides and cells that crispat fits in a minute or two, and how it is told; the others it does at
# once. It takes 2,500 steps a guide, each with a new sample of 15,000 cells unless told otherwise:
# of 4,000 cells it takes all of them in every step.
N_CELLS = 4_000
FEW = f"guides-2-cells-{N_CELLS}"
FEW_ARGUMENTS = {"start_gRNA": 0, "gRNA_step": 2, "subsample_size": N_CELLS}
LIVE: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "poisson_gauss": ("guides-5", {"start_gRNA": 0, "step": 5}),
} | dict.fromkeys(("poisson", "neg_binomial", "binomial"), (FEW, FEW_ARGUMENTS))
# Published for the first five guides.
PUBLISHED_ON = {"neg_binomial": "guides-5"}


@cache
def _ours(
    path: Path, model: str, rule: tuple[tuple[str, Any], ...]
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return called pairs by the reference and by the kernels, for both things compared with."""
    compute = called_pairs(path, model, **dict(rule))
    if model in WITHOUT_REFERENCE:
        with output_folder() as folder:
            return None, compute(folder)
    return by_engine(compute)


def _counts(bench: Bench, data: str) -> Any:
    import anndata

    return anndata.read_h5ad(guides(data, bench.cache))


def _published(model: str) -> Callable[[Bench, str], Iterator[Check]]:
    def checks(bench: Bench, data: str) -> Iterator[Check]:
        import pandas as pd

        path = published_calls().get(model)
        if path is None:
            raise FileNotFoundError("crispat's published calls: set CRISPYX_DATA_DIR")
        table = pd.read_csv(path)
        screen = _counts(bench, data)
        cells = screen.obs_names.get_indexer(table["cell"])
        found = screen.var_names.get_indexer(table["gRNA"])
        rule = PUBLISHED_RULE.get(model, {})
        ours = _ours(guides(data, bench.cache), model, tuple(rule.items()))
        outside = pair_numbers(cells, found)
        yield calls_check(
            METHOD[model],
            f"{model}, published calls",
            outside,
            ours,
            screen.X.toarray(),
            n_guides(data),
        )

    return checks


def _live(model: str) -> Callable[[Bench, str], Iterator[Check]]:
    function, arguments = FUNCTIONS[model]
    some = dict(LIVE.get(model, ("", {}))[1])

    def checks(bench: Bench, data: str) -> Iterator[Check]:
        theirs = bench.outside.ask(
            "crispat",
            "called",
            files={"guides": guides(data, bench.cache)},
            function=function,
            arguments=arguments | some,
        )
        outside = pair_numbers(theirs["cells"], theirs["guides"])
        rule = CRISPAT_RULE.get(model, {})
        ours = _ours(guides(data, bench.cache), model, tuple(rule.items()))
        screen = _counts(bench, data)
        counts, n = screen.X.toarray(), n_guides(data)
        explained = {}
        if model == "binomial":
            consistent = _by_the_link_of_the_fit(theirs, counts, screen.var_names[:n])
            called = np.zeros(consistent.shape, dtype=bool)
            pairs = ours[1][ours[1][:, 1] < n]
            called[tuple(pairs.T)] = True
            explained = {"another link to predict": consistent == called}
        yield calls_check(METHOD[model], f"{model}, calls", outside, ours, counts, n, explained)

    return checks


def _by_the_link_of_the_fit(
    theirs: Mapping[str, np.ndarray], counts: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """Return calls (n_cells, n_guides) bool by crispat's estimates and the logit that it fits."""
    from scipy.special import expit
    from scipy.stats import binom

    depth, found = counts.sum(axis=1), []
    for guide, y in zip(names, counts.T, strict=False):
        low, up, weight, batch = (
            float(theirs[f"{name} {guide}"][0]) for name in ("beta0", "beta1", "pi", "gamma_1")
        )
        ambient = np.log1p(-weight) + binom.logpmf(y, depth, expit(low + batch))
        signal = np.log(weight) + binom.logpmf(y, depth, expit(low + up + batch))
        found.append((y > 0) & (signal > ambient))
    return np.array(found).T


CASES = (
    *(
        Case(METHOD[model], PUBLISHED_ON.get(model, "guides"), _published(model))
        for model in FUNCTIONS
        if model not in {"poisson", "binomial"}  # not published, or by a version before a fix
    ),
    *(Case(METHOD[m], LIVE[m][0] if m in LIVE else "guides", _live(m)) for m in FUNCTIONS),
)
