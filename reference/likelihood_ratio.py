r"""Likelihood ratio of two log means against one, for one gene of known dispersion.

.. math::

    z = \pm \sqrt{2 \big(\ell_0(\hat\eta_0) + \ell_1(\hat\eta_1) - \ell(\tilde\eta)\big)}

with :math:`\hat\eta_k` the log mean of highest likelihood of arm k and :math:`\tilde\eta` the one
common to both. The likelihood of an arm without counts tends to 1 and its logarithm to 0, so that
the ratio is finite there.
"""

from __future__ import annotations

import math

import numpy as np

from reference.nb_coefficients import Arm, best_log_mean, poisson_log_mean
from reference.nb_likelihood import log_likelihood

NULL_ITERATIONS = 100
NULL_TOLERANCE = 1e-9


def likelihood_ratio_root(control: Arm, perturbed: Arm, alpha: float) -> float:
    """Return the signed root of the likelihood ratio; ``p = erfc(|z| / sqrt(2))``.

    Parameters
    ----------
    control, perturbed : the two arms, at least one count above 0 in either
    alpha : dispersion above 0

    Returns
    -------
    float, positive when the perturbed cells have the higher mean.

    Notes
    -----
    Source: S. S. Wilks, Annals of Mathematical Statistics 9 (1938) 60-62.
    """
    eta0, eta1 = (_log_mean(arm, alpha) for arm in (control, perturbed))
    pool = Arm(
        np.concatenate([control.counts, perturbed.counts]),
        np.concatenate([control.size_factors, perturbed.size_factors]),
    )
    ratio = _at(control, eta0, alpha) + _at(perturbed, eta1, alpha)
    ratio -= _at(pool, _log_mean(pool, alpha), alpha)
    return math.copysign(math.sqrt(max(2 * ratio, 0.0)), eta1 - eta0)


def _log_mean(arm: Arm, alpha: float) -> float:
    if not arm.counts.any():
        return -math.inf
    return best_log_mean(arm, alpha, poisson_log_mean(arm), NULL_ITERATIONS, NULL_TOLERANCE).eta


def _at(arm: Arm, eta: float, alpha: float) -> float:
    """Return the log-likelihood at a log mean, its limit at minus infinity for a silent arm."""
    if eta == -math.inf:
        return 0.0
    return log_likelihood(arm.counts, arm.size_factors * math.exp(eta), alpha)
