"""SciPy and statsmodels: tests and models of dense matrices, cells x genes."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, Any]


def rank_sums(arrays: Arrays, files: Arrays, alternative: str) -> Arrays:
    """Test every group (codes 1, 2, ...) against cells of code 0."""
    from scipy.stats import mannwhitneyu

    x, code = arrays["x"], arrays["code"]
    control = x[code == 0]
    found = [
        mannwhitneyu(
            x[code == k],
            control,
            use_continuity=False,
            alternative=alternative,
            method="asymptotic",
        )
        for k in range(1, code.max() + 1)
    ]
    return {
        "u": np.array([one.statistic for one in found]),
        "p": np.array([one.pvalue for one in found]),
    }


def welch(arrays: Arrays, files: Arrays) -> Arrays:
    """Test every group (codes 1, 2, ...) against cells of code 0."""
    from scipy.stats import ttest_ind

    x, code = arrays["x"], arrays["code"]
    control = x[code == 0]
    found = [ttest_ind(x[code == k], control, equal_var=False) for k in range(1, code.max() + 1)]
    return {
        "t": np.array([one.statistic for one in found]),
        "p": np.array([one.pvalue for one in found]),
    }


def adjusted(arrays: Arrays, files: Arrays) -> Arrays:
    """Adjust every row of p-values by both procedures of both libraries."""
    from scipy.stats import false_discovery_control
    from statsmodels.stats.multitest import multipletests

    rows = arrays["p"]
    return {
        "benjamini-hochberg": np.array([false_discovery_control(p, method="bh") for p in rows]),
        "benjamini-hochberg statsmodels": np.array(
            [multipletests(p, method="fdr_bh")[1] for p in rows]
        ),
        "bonferroni": np.array([multipletests(p, method="bonferroni")[1] for p in rows]),
    }


def van_elteren(arrays: Arrays, files: Arrays) -> Arrays:
    """Combine midranks over batches, the variance that of sampling without replacement."""
    from scipy.stats import norm, rankdata

    x, code, batch = arrays["x"], arrays["code"], arrays["batch"]
    rows = []
    for k in range(1, code.max() + 1):
        excess, variance = np.zeros((2, x.shape[1]))
        weights, terms = [], []
        for b in np.unique(batch):
            here = (batch == b) & ((code == 0) | (code == k))
            treated = code[here] == k
            n, n1 = len(treated), int(treated.sum())
            if n1 in (0, n):
                continue
            ranks = rankdata(x[here], axis=0)
            difference = ranks[treated].sum(axis=0) - n1 * (n + 1) / 2
            terms.append((difference, n1 * (n - n1) / n * ranks.var(axis=0, ddof=1)))
            weights.append(1 / (n + 1))
        for weight, (difference, spread) in zip(weights, terms, strict=True):
            excess += weight * difference
            variance += weight**2 * spread
        with np.errstate(invalid="ignore", divide="ignore"):
            rows.append(excess / np.sqrt(variance))
    z = np.array(rows)
    return {"z": z, "p": 2 * norm.sf(np.abs(z))}


def batch_welch(arrays: Arrays, files: Arrays) -> Arrays:
    """Fit means of arms and batches by least squares; HC2 gives Welch's variance of each.

    The difference is the coefficient of the group beside an intercept for every batch; its
    weights are those of that projection.
    """
    import statsmodels.api as sm

    x, code, batch = arrays["x"], arrays["code"], arrays["batch"]
    found: dict[str, list[list[float]]] = {"difference": [], "t": []}
    for k in arrays["groups"]:
        here = (code == 0) | (code == k)
        treated, of_batch = code[here] == k, batch[here]
        n1 = np.array([(treated & (of_batch == b)).sum() for b in range(batch.max() + 1)])
        n0 = np.array([(~treated & (of_batch == b)).sum() for b in range(batch.max() + 1)])
        used = np.flatnonzero((n0 >= 2) & (n1 >= 2))
        here[here] = np.isin(of_batch, used)
        treated, of_batch = code[here] == k, batch[here]
        additive = np.column_stack([treated, *[of_batch == b for b in used]]).astype(float)
        cells = [treated & (of_batch == b) for b in used] + [
            ~treated & (of_batch == b) for b in used
        ]
        means = np.column_stack(cells).astype(float)
        # The additive coefficient as a combination of the means of the cells of the design.
        contrast = (np.linalg.pinv(additive) @ means @ np.eye(means.shape[1]))[0]
        difference, t = [], []
        for y in x[here].T:
            difference.append(sm.OLS(y, additive).fit().params[0])
            fit = sm.OLS(y, means).fit(cov_type="HC2")
            with np.errstate(invalid="ignore", divide="ignore"):
                t.append(float(np.squeeze(fit.t_test(contrast).tvalue)))
        found["difference"].append(difference)
        found["t"].append(t)
    return {name: np.array(rows) for name, rows in found.items()}


def least_squares(arrays: Arrays, files: Arrays) -> Arrays:
    """Regress every gene on all groups and all batches but the first."""
    import statsmodels.api as sm

    x, code, batch = arrays["x"], arrays["code"], arrays["batch"]
    groups = [code == k for k in range(1, code.max() + 1)]
    batches = [batch == b for b in range(1, batch.max() + 1)]
    design = np.column_stack([np.ones(len(code)), *groups, *batches]).astype(float)
    fits = [sm.OLS(y, design).fit() for y in x.T]
    chosen = slice(1, 1 + len(groups))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "effect": np.array([fit.params[chosen] for fit in fits]).T,
            "t": np.array([fit.tvalues[chosen] for fit in fits]).T,
        }


def likelihood_ratios(arrays: Arrays, files: Arrays) -> Arrays:
    """Fit the arms of every gene apart and together, at its dispersion."""
    import statsmodels.api as sm

    arm, offset = arrays["arm"], np.log(arrays["size_factors"])
    together = np.ones((len(arm), 1))
    apart = np.column_stack([together, arm])
    roots = []
    for y, alpha in zip(arrays["counts"].T, arrays["alpha"], strict=True):
        family = sm.families.NegativeBinomial(alpha=alpha)
        full, null = (
            sm.GLM(y, design, family=family, offset=offset).fit(maxiter=1000, tol=1e-10)
            for design in (apart, together)
        )
        ratio = max(2 * (full.llf - null.llf), 0.0)
        roots.append(np.copysign(np.sqrt(ratio), full.params[1]))
    return {"root": np.array(roots)}


def energies(arrays: Arrays, files: Arrays) -> Arrays:
    """Compare every group (codes 1, 2, ...) with cells of code 0, by all distances."""
    from scipy.spatial.distance import cdist

    x, code = arrays["embedding"].astype(float), arrays["code"]
    control = x[code == 0]
    within = cdist(control, control).mean()
    found = []
    for k in range(1, code.max() + 1):
        own = x[code == k]
        found.append(2 * cdist(own, control).mean() - cdist(own, own).mean() - within)
    return {"energy": np.array(found)}
