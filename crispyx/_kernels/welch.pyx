"""Welch's t and its two-sided p from the moments of both arms of every (group, gene).

The tail of Student's distribution is SciPy's own function, called by all threads: the same bits as
``scipy.special.stdtr``.
"""

from libc.math cimport NAN, expm1, fabs, log2, sqrt
from cython.parallel cimport prange
from scipy.special.cython_special cimport stdtr

ctypedef long long int64


def welch(
    const double[:, ::1] mean0,      # IN (n_groups, n_genes), or (1, n_genes) of a shared control
    const double[:, ::1] variance0,  # IN idem
    const int64[::1] n0,             # IN (n_groups,) or (1,), cells of the control
    const double[:, ::1] mean1,      # IN (n_groups, n_genes)
    const double[:, ::1] variance1,  # IN idem
    const int64[::1] n1,             # IN (n_groups,), cells of the group
    double[:, ::1] statistic,        # OUT (n_groups, n_genes)
    double[:, ::1] pvalue,           # OUT idem
    int n_threads,
):
    """Fill t and p; NaN where neither arm varies or one has fewer than two cells."""
    cdef Py_ssize_t k, c, g
    cdef double q0, q1, total, share0, share1
    with nogil:
        for k in prange(mean1.shape[0], schedule="dynamic", num_threads=n_threads):
            c = k if mean0.shape[0] > 1 else 0
            for g in range(mean1.shape[1]):
                q0 = variance0[c, g] / n0[c]
                q1 = variance1[k, g] / n1[k]
                total = q0 + q1
                if not total > 0:
                    statistic[k, g] = NAN
                    pvalue[k, g] = NAN
                    continue
                # Shares of the total first: the squares of tiny variances would underflow.
                share0 = q0 / total
                share1 = q1 / total
                statistic[k, g] = (mean1[k, g] - mean0[c, g]) / sqrt(total)
                pvalue[k, g] = 2 * stdtr(
                    1 / (share0 * share0 / (n0[c] - 1) + share1 * share1 / (n1[k] - 1)),
                    -fabs(statistic[k, g]),
                )


def log_fold_changes(
    const double[:, ::1] before,  # IN (n_groups, n_genes), or (1, n_genes) of a shared control
    const double[:, ::1] mean1,   # IN (n_groups, n_genes)
    double pseudocount,
    double[:, ::1] change,        # OUT (n_groups, n_genes), log2
    int n_threads,
):
    """Fill the log2 fold changes of back-transformed log1p means.

    ``before`` is that of the control, the pseudocount added.
    """
    cdef Py_ssize_t k, c, g
    with nogil:
        for k in prange(mean1.shape[0], schedule="static", num_threads=n_threads):
            c = k if before.shape[0] > 1 else 0
            for g in range(mean1.shape[1]):
                change[k, g] = log2((expm1(mean1[k, g]) + pseudocount) / before[c, g])
