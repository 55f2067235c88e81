"""The definition of every number this project computes, in plain NumPy and SciPy.

The package is slow on purpose: one gene, one comparison, one cell-by-guide table at a time, in the
order in which a textbook would write the formula, on dense arrays in float64. It knows nothing of
files, blocks, threads or sparse layouts and imports nothing of ``crispyx``. The compiled engine is
held against it by tests, and ``cx.use_engine("reference")`` runs a public call through it.

Read the modules in this order (``README.md`` works one example by hand):

================================ ====================================================
module                           what it defines
================================ ====================================================
:mod:`reference.normalize`       library sizes, counts per 10,000, log1p
:mod:`reference.moments`         mean, variance, fraction of expressing cells
:mod:`reference.welch`           Welch's t-test, log2 fold change
:mod:`reference.rank_sum`        Wilcoxon rank-sum test with ties
:mod:`reference.van_elteren`     the rank-sum test within batches, one-sided tests
:mod:`reference.pseudobulk`      profiles of groups of cells, weights of batches
:mod:`reference.batch_welch`     the t-test within batches
:mod:`reference.multiple_testing` Benjamini-Hochberg and Bonferroni
:mod:`reference.expression_filter` which genes are expressed enough to be tested
:mod:`reference.qc`              quality control of cells, perturbations and genes
:mod:`reference.guide_rules`     guide calls by a count, the maximum, a proportion, a quantile
:mod:`reference.mixtures`        what all mixtures of guide counts share: gate, EM, Newton
:mod:`reference.histogram_mixtures` ``poisson_gauss`` and ``gauss``
:mod:`reference.depth_mixtures`  ``poisson``, ``neg_binomial`` and ``binomial``
:mod:`reference.beta_mixtures`   ``beta2`` and ``beta3``
:mod:`reference.pipelines`       the two tests over a whole screen, degenerate cases
:mod:`reference.pca`             principal components
:mod:`reference.highly_variable_genes` genes that vary more than others of their mean
:mod:`reference.residual_effects` effects beside covariates and other guides
:mod:`reference.downsample_counts` fewer molecules of every cell
:mod:`reference.energy_distance` how far two clouds of cells lie apart
:mod:`reference.size_factors`    depth of each cell, four ways
:mod:`reference.nb_likelihood`   the negative binomial log-likelihood and its slopes
:mod:`reference.nb_coefficients` log means of both arms, PyDESeq2's iteration
:mod:`reference.dispersion`      genewise dispersions, prior, posterior modes
:mod:`reference.dispersion_trend` dispersion over the mean
:mod:`reference.wald`            standard errors and tests of a fold change
:mod:`reference.apeglm`          shrinkage of fold changes under a Cauchy prior
:mod:`reference.nb_regression`   the negative binomial model of any design
:mod:`reference.cooks`           Cook's distance and replaced counts
:mod:`reference.calibration`     splits of control cells, and what is counted of their p-values
:mod:`reference.nb_glm`          the negative binomial test over a whole screen
================================ ====================================================
"""
