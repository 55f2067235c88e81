"""Rank-sum statistics of batches combined into one test."""

from libc.math cimport NAN, erfc, fabs, sqrt
from cython.parallel cimport prange

ctypedef long long int64


def combine_batches(
    const int64[:, :, ::1] twice_excess,  # IN (n_batches, n_perturbations, n_genes), 2 U - n0 n1
    const double[:, :, ::1] variance,     # IN idem, of U
    const double[:, ::1] weights,         # IN (n_batches, n_perturbations), 0 without an arm
    const int64[:, ::1] pairs,            # IN idem, n0 n1
    int side,                             # 1 for greater, -1 for less, 0 for both
    double[:, ::1] u,                     # OUT (n_perturbations, n_genes)
    double[:, ::1] z,                     # OUT idem
    double[:, ::1] pvalue,                # OUT idem
    double[:, ::1] effect_size,           # OUT idem
    int n_threads,
):
    """Fill the four tables; NaN where no batch has both arms.

    With one batch, whose weight is 1, every number is that of the rank-sum test to the last bit.
    """
    cdef Py_ssize_t b, k, g
    cdef double w, excess, spread, total_u, total_pairs, root
    with nogil:
        for k in prange(u.shape[0], schedule="static", num_threads=n_threads):
            for g in range(u.shape[1]):
                excess = 0
                spread = 0
                total_u = 0
                total_pairs = 0
                for b in range(weights.shape[0]):
                    w = weights[b, k]
                    if w > 0:
                        excess = excess + w * <double> twice_excess[b, k, g]
                        spread = spread + w * w * variance[b, k, g]
                        total_u = total_u + w * (0.5 * <double> (twice_excess[b, k, g] + pairs[b, k]))
                        total_pairs = total_pairs + w * <double> pairs[b, k]
                root = sqrt(spread)
                z[k, g] = 0.5 * excess / root if root > 0 else 0
                u[k, g] = total_u
                effect_size[k, g] = total_u / total_pairs - 0.5
                if total_pairs == 0:
                    u[k, g] = NAN
                    z[k, g] = NAN
                    effect_size[k, g] = NAN
                if side == 0:
                    pvalue[k, g] = erfc(fabs(z[k, g]) / sqrt(2.0))
                else:
                    pvalue[k, g] = 0.5 * erfc(side * z[k, g] / sqrt(2.0))
