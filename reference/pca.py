r"""Principal components of cells x genes: the definition, by a singular value decomposition.

With :math:`\bar x` the means of the genes over all cells and :math:`n` the number of cells,

.. math::

    X - \mathbf{1} \bar x^T = U S V^T, \qquad
    \lambda_k = \frac{s_k^2}{n - 1}, \qquad
    T_k = (X - \mathbf{1} \bar x^T) \, v_k

The columns of :math:`V` are the components (loadings of the genes), :math:`\lambda_k` their
variances and :math:`T` the coordinates of the cells. The variance ratio is :math:`\lambda_k` over
the sum of the variances of all genes. The sign of a component is free; here its entry of largest
magnitude is positive (the first such entry on ties).

Source: Pearson, Philosophical Magazine 2 (1901) 559-572; Hotelling, Journal of Educational
Psychology 24 (1933) 417-441.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PrincipalComponents:
    """The leading principal components.

    Attributes
    ----------
    components : numpy.ndarray (n_genes, n_components) float64
        Orthonormal columns, largest variance first.
    variance, variance_ratio : numpy.ndarray (n_components,) float64
        Variance of the coordinates (n - 1 in the denominator), and its share of the total.
    coordinates : numpy.ndarray (n_cells, n_components) float64
        The centered cells in these components.
    """

    components: np.ndarray
    variance: np.ndarray
    variance_ratio: np.ndarray
    coordinates: np.ndarray


def pca(values: np.ndarray, n_components: int) -> PrincipalComponents:
    """Return the leading principal components.

    Parameters
    ----------
    values : numpy.ndarray (n_cells, n_genes)
        Expression, dense.
    n_components : int
        How many, at most ``min(n_cells, n_genes)``.
    """
    centered = values - values.mean(axis=0)
    _, singular, components = np.linalg.svd(centered, full_matrices=False)
    components = with_signs(components[:n_components].T)
    variance = singular[:n_components] ** 2 / (len(values) - 1)
    total = centered.var(axis=0, ddof=1).sum()
    return PrincipalComponents(
        components, variance, variance / total, coordinates=centered @ components
    )


def with_signs(components: np.ndarray) -> np.ndarray:
    """Return the columns with such signs that each one's entry of largest magnitude is positive."""
    largest = np.abs(components).argmax(axis=0)
    signs = np.where(components[largest, np.arange(components.shape[1])] < 0, -1.0, 1.0)
    return components * signs
