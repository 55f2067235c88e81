"""The stages of the negative binomial test, put together, against reference.nb_glm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from grouped_counts import grouped_counts

from crispyx._stats.nb_likelihood import Counts
from crispyx.de.nb_stages import (
    Estimators,
    compared_block,
    final_fit,
    fit_shrinkage,
    fitting_of,
    genewise_fit,
)
from reference.nb_glm import (
    CALIBRATED,
    DEFAULT_OPTIONS,
    PYDESEQ2,
    NBOptions,
    nb_glm,
    without_filters,
)

EVERY_GENE = without_filters(DEFAULT_OPTIONS)
LITERAL = replace(without_filters(PYDESEQ2), size_factor_scope="global")
CASES = {
    "defaults": EVERY_GENE,
    "one dispersion for each comparison": replace(EVERY_GENE, dispersion_scope="per_comparison"),
    "shared whatever the scope": replace(
        EVERY_GENE, dispersion_scope="per_comparison", share_dispersion=True
    ),
    "moments": replace(EVERY_GENE, dispersion_method="moments"),
    "moments as they are": replace(
        EVERY_GENE, dispersion_method="moments", shrink_dispersion=False
    ),
    "genewise beside a trend": replace(EVERY_GENE, use_map_dispersion=False),
    "a given dispersion": replace(EVERY_GENE, dispersion=0.6),
    "irls": replace(EVERY_GENE, optimization_method="irls"),
    "irls without a clamp": replace(EVERY_GENE, optimization_method="irls", min_mu=0.0),
    "irls from zero": replace(EVERY_GENE, optimization_method="irls", poisson_init_iter=0),
    "few steps": replace(EVERY_GENE, max_iter=2, poisson_init_iter=0),
    "robust": replace(EVERY_GENE, se_method="robust"),
    "fisher": replace(EVERY_GENE, se_method="fisher"),
    "cook": replace(EVERY_GENE, cook_filter=True),
    "likelihood ratio": replace(EVERY_GENE, test="lrt"),
    "score": replace(EVERY_GENE, test="score"),
    "calibrated": without_filters(CALIBRATED),
    "calibrated, permuted": replace(
        without_filters(CALIBRATED), test="permutation", seed=5, most_sets=2_000
    ),
    "calibrated, Wald": replace(without_filters(CALIBRATED), test="wald"),
    "small dispersions": replace(EVERY_GENE, largest_dispersion=0.2),
    "pydeseq2": LITERAL,
    "pydeseq2 with replacement": replace(LITERAL, cook_filter=True),
}


def estimators(options: NBOptions) -> Estimators:
    return Estimators(
        dispersion=options.dispersion,
        dispersion_method=options.dispersion_method,
        shares_dispersion=options.shares_dispersion,
        shrinks=options.shrink_dispersion,
        takes_mode=options.use_map_dispersion,
        fitting=fitting_of(
            options.optimization_method,
            min_mu=options.min_mu,
            max_iter=options.max_iter,
            tol=options.tol,
            poisson_init_iter=options.poisson_init_iter,
            literal=options.literal,
            penalized=options.firth,
        ),
        se_method=options.se_method,
        cook_filter=options.cook_filter,
        literal=options.literal,
        largest=options.largest_dispersion,
        test=options.test,
        seed=options.seed,
        most_sets=options.most_sets,
    )


def all_stages(
    counts: Counts, chosen: Estimators, engine: str, n_threads: int = 1
) -> dict[str, np.ndarray]:
    shape = (counts.table.n_groups - 1, counts.n_genes)
    genewise = genewise_fit(counts, chosen, engine, n_threads)
    shrinkage = fit_shrinkage(genewise, counts.table.n_cells, chosen)
    final, trend = final_fit(counts, genewise, shrinkage, chosen, engine, n_threads)
    alpha = np.ascontiguousarray(np.broadcast_to(final, shape))
    tile = compared_block(counts, alpha, shrinkage, chosen, engine, n_threads)
    tile["dispersion_raw"] = np.broadcast_to(genewise.dispersion, shape)
    tile["dispersion_trend"] = np.broadcast_to(trend, shape)
    return tile


@pytest.fixture(scope="module")
def screen() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, group numbers and size factors, with silent arms, an outlier and rare genes."""
    rng = np.random.default_rng(12)
    labels = rng.permutation(np.repeat([0, 1, 2], [40, 16, 9]))
    s = np.exp(rng.normal(0, 0.4, labels.size))
    mean, alpha = np.exp(rng.normal(0, 1.6, 14)), 0.1 + rng.gamma(2, 0.2, 14)
    mu = s[:, None] * mean * np.exp(rng.normal(0, 0.5, (3, 14)))[labels]
    y = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(float)
    y[labels == 1, 0] = 0
    y[labels == 0, 1] = 0
    y[:, 2] = 0
    y[np.flatnonzero(labels == 2)[3], 3] = 900
    y[:, 4] = 0
    y[np.flatnonzero(labels == 1)[:1], 4] = 60
    return y, labels, s


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_stages_together_are_the_defined_test(screen: tuple, options: NBOptions) -> None:
    y, labels, s = screen
    # The definition takes perturbations in order of first appearance.
    order = np.argsort(np.where(labels == 0, 0, labels), kind="stable")
    names = np.array(["control", "A", "B"])[labels]
    defined = nb_glm(y[order], names[order], "control", options, s[order])
    ours = all_stages(grouped_counts(y, labels, s), estimators(options), "compiled")
    for name, table in ours.items():
        expected = getattr(defined, name)
        if name in ("iterations", "converged", "status"):
            np.testing.assert_array_equal(table, expected, err_msg=name)
        else:
            # 1e-8 of log dispersions reaches fold changes and statistics at about that size.
            np.testing.assert_allclose(table, expected, rtol=2e-8, atol=2e-8, err_msg=name)


@pytest.mark.parametrize("name", ["defaults", "pydeseq2 with replacement"])
def test_both_engines_run_the_same_stages(screen: tuple, name: str) -> None:
    counts, chosen = grouped_counts(*screen), estimators(CASES[name])
    compiled, defined = (all_stages(counts, chosen, e) for e in ("compiled", "reference"))
    for column, table in compiled.items():
        np.testing.assert_allclose(table, defined[column], rtol=2e-8, atol=2e-8, err_msg=column)


@pytest.mark.parametrize("name", ["defaults", "pydeseq2"])
def test_stages_do_not_depend_on_threads(screen: tuple, name: str) -> None:
    counts, chosen = grouped_counts(*screen), estimators(CASES[name])
    one, three = (all_stages(counts, chosen, "compiled", n) for n in (1, 3))
    for column, table in one.items():
        np.testing.assert_array_equal(table, three[column], err_msg=column)
