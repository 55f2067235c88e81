"""A design of several columns in crispyx.glm gives PyDESeq2's numbers, and statsmodels'."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import crispyx as cx
from crispyx.glm import NBGLMBatchFitter, shrink_lfc_apeglm
from crispyx.settings import Engine
from reference import nb_regression

CELL = np.arange(24)
ARM, BATCH = CELL >= 16, CELL % 3
DESIGN = np.column_stack([np.ones(24), ARM, BATCH == 1, BATCH == 2, np.sin(1.7 * CELL)]).astype(
    float
)
SIZES = np.exp(0.3 * np.cos(CELL))
COUNTS = np.column_stack(
    [(3 + 5 * ARM + 7 * CELL % 5) % 11, (CELL**2 + 3) % 7, (2 * CELL + 9 * (CELL % 4)) % 23]
)
ALPHA = np.array([0.3, 0.5, 0.2])
SCALE = 0.5

# PyDESeq2 0.5.4: irls (min_mu 1e-300, beta_tol 1e-14), wald_test, nbinomGLM, fit_alpha_mle.
COEFFICIENTS = [
    [1.68167564, 0.28426022, -0.25060284, -0.09846141, 0.05759474],
    [0.90986054, -0.19184456, 0.33898943, 0.17943506, -0.6562647],
    [1.6940823, 0.15558965, 0.86288152, 0.84347321, -0.1810546],
]
ERRORS = [0.30264509, 0.4143809, 0.23728637]
MODES = [0.17213037, -0.08113117, 0.10884541]
DISPERSIONS = [0.25640006, 0.42556947, 0.5725575]

ENGINES: tuple[Engine, ...] = ("compiled", "reference")


@pytest.mark.parametrize("engine", ENGINES)
def test_coefficients_errors_and_modes_are_those_of_pydeseq2(engine: Engine) -> None:
    fitter = NBGLMBatchFitter(DESIGN, offset=np.log(SIZES), min_mu=0, max_iter=100, tol=1e-10)
    with cx.use_engine(engine):
        fits = fitter.fit_batch_with_joint_offsets(COUNTS, fixed_dispersion=ALPHA)
        given = SIZES, ALPHA, fits.coef.T, fits.se[:, 1]
        modes, _, converged = shrink_lfc_apeglm(COUNTS, DESIGN, *given, prior_scale=SCALE)
    # It stops by its deviance, whose change is the square of a step.
    np.testing.assert_allclose(fits.coef, COEFFICIENTS, atol=2e-7)
    # The ridge of 1e-6 stands on both sides of the information there.
    np.testing.assert_allclose(fits.se[:, 1], ERRORS, rtol=1e-6)
    # It stops where a step gains less than 1e-8 of the loss.
    np.testing.assert_allclose(modes[1], MODES, atol=1e-4)
    assert converged.all()


# The same with min_mu 0.5, which holds means of the first and most of the second gene.
RARE = COUNTS // 5
CLAMPED = [
    [-0.479008947, 0.533422252, -0.210406871, -0.207004197, 0.053982779],
    [-1.328778609, 0.067654641, 0.206718333, 0.221563745, -0.578485185],
    [-0.290824662, 0.200632261, 1.043086542, 1.026163533, -0.301729654],
]


@pytest.mark.parametrize("engine", ENGINES)
def test_clamped_coefficients_are_those_of_pydeseq2(engine: Engine) -> None:
    fitter = NBGLMBatchFitter(DESIGN, offset=np.log(SIZES), min_mu=0.5, max_iter=500, tol=1e-12)
    with cx.use_engine(engine):
        fits = fitter.fit_batch_with_joint_offsets(RARE, fixed_dispersion=ALPHA)
    assert fits.converged.all()
    # It stops by its deviance here; its digits as printed.
    np.testing.assert_allclose(fits.coef, CLAMPED, atol=1e-8)


def test_dispersions_at_given_means_are_those_of_pydeseq2() -> None:
    for y, coefficients, alpha in zip(COUNTS.T, COEFFICIENTS, DISPERSIONS, strict=True):
        mu = nb_regression.means(DESIGN, np.log(SIZES), np.array(coefficients))
        found = nb_regression.cox_reid_dispersion(y, mu, DESIGN, high=24.0)
        assert found == pytest.approx(alpha, rel=1e-4)  # where its search stops


@pytest.mark.parametrize("engine", ENGINES)
def test_coefficients_and_errors_are_those_of_statsmodels(engine: Engine) -> None:
    from statsmodels.genmod.families import NegativeBinomial
    from statsmodels.genmod.generalized_linear_model import GLM

    fitter = NBGLMBatchFitter(
        DESIGN, offset=np.log(SIZES), min_mu=0, max_iter=100, tol=1e-10, ridge_penalty=0.0
    )
    with cx.use_engine(engine):
        fits = fitter.fit_batch_with_joint_offsets(COUNTS, fixed_dispersion=ALPHA)
    for gene, alpha in enumerate(ALPHA):
        family = NegativeBinomial(alpha=alpha)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = GLM(COUNTS[:, gene], DESIGN, family, offset=np.log(SIZES)).fit(tol=1e-12)
        # It stops by its deviance, too.
        np.testing.assert_allclose(fits.coef[gene], theirs.params, atol=1e-6)
        np.testing.assert_allclose(fits.se[gene], theirs.bse, rtol=1e-5)
        assert fits.deviance[gene] == pytest.approx(theirs.deviance, rel=1e-9)
