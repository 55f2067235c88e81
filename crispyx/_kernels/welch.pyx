"""Welch's t and Student's tails from the moments of both arms of every (group, gene)."""

from libc.math cimport NAN, expm1, log2, sqrt
from libc.stdint cimport int64_t
from cython.parallel cimport prange

ctypedef long long int64

cdef extern from "student_tail.h" nogil:
    void student_tails_of "crispyx_student_tails"(
        const double* t, const double* df, double* p, int64_t n)
    double log_tail "crispyx_log_tail"(double t, double df)

cdef enum:
    ROWS = 16    # taken at a time: other threads need the cores as well
    STRIP = 256  # genes between the two loops, whose degrees of freedom stay in the cache


def welch(
    const double[:, ::1] mean0,      # IN (n_groups, n_genes), or (1, n_genes) of a shared control
    const double[:, ::1] variance0,  # IN idem
    const int64[::1] n0,             # IN (n_groups,) or (1,), cells of the control
    const double[:, ::1] mean1,      # IN (n_groups, n_genes)
    const double[:, ::1] variance1,  # IN idem
    const int64[::1] n1,             # IN (n_groups,), cells of the group
    double[:, ::1] statistic,        # OUT (n_groups, n_genes)
    double[:, ::1] pvalue,           # OUT idem
    float[:, ::1] degrees_of_freedom,  # OUT idem
    int n_threads,
):
    """Fill t, its two-sided p and its degrees of freedom; NaN where neither arm varies or one has fewer than two cells."""
    cdef Py_ssize_t k, c, s, first, n_genes = mean1.shape[1]
    cdef Py_ssize_t n_strips = (n_genes + STRIP - 1) // STRIP
    with nogil:
        for k in prange(mean1.shape[0], schedule="dynamic", num_threads=n_threads):
            c = k if mean0.shape[0] > 1 else 0
            for s in range(n_strips):
                first = s * STRIP
                welch_strip(
                    &mean0[c, first], &variance0[c, first], <double> n0[c],
                    &mean1[k, first], &variance1[k, first], <double> n1[k],
                    &statistic[k, first], &pvalue[k, first], &degrees_of_freedom[k, first],
                    min(STRIP, n_genes - first),
                )


cdef void welch_strip(
    const double* mean0, const double* variance0, double n0,
    const double* mean1, const double* variance1, double n1,
    double* statistic, double* pvalue, float* degrees_of_freedom, Py_ssize_t n,
) noexcept nogil:
    cdef double df[STRIP]
    cdef double q0, q1, total, share0, share1
    cdef Py_ssize_t g
    for g in range(n):
        q0 = variance0[g] / n0
        q1 = variance1[g] / n1
        total = q0 + q1
        # Shares of the total first: the squares of tiny variances would underflow.
        share0 = q0 / total
        share1 = q1 / total
        df[g] = 1 / (share0 * share0 / (n0 - 1) + share1 * share1 / (n1 - 1))
        degrees_of_freedom[g] = <float> df[g]
        statistic[g] = (mean1[g] - mean0[g]) / sqrt(total) if total > 0 else NAN
    student_tails_of(statistic, df, pvalue, n)


def student_tails(
    const double[:, ::1] statistic,           # IN (n_groups, n_genes)
    const double[:, ::1] degrees_of_freedom,  # IN idem
    int side,                                 # 1 for greater, -1 for less, 0 for both
    double[:, ::1] pvalue,                    # OUT idem
    int n_threads,
):
    """Fill the tails of Student's distribution; NaN without a t."""
    cdef Py_ssize_t k, g
    with nogil:
        for k in prange(statistic.shape[0], schedule="static", num_threads=n_threads):
            student_tails_of(
                &statistic[k, 0], &degrees_of_freedom[k, 0], &pvalue[k, 0], statistic.shape[1])
            if side != 0:
                for g in range(statistic.shape[1]):
                    pvalue[k, g] = 0.5 * pvalue[k, g]
                    if side * statistic[k, g] < 0:
                        pvalue[k, g] = 1 - pvalue[k, g]


def log_student_tails(
    const double[::1] statistic,           # IN (n,)
    const double[::1] degrees_of_freedom,  # IN (n,)
    double[::1] logs,                      # OUT (n,), natural
    int n_threads,
):
    """Fill the logarithms of two-sided tails; NaN without a t."""
    cdef Py_ssize_t i
    with nogil:
        for i in prange(statistic.shape[0], schedule="static", num_threads=n_threads):
            logs[i] = log_tail(statistic[i], degrees_of_freedom[i])


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
        for k in prange(mean1.shape[0], schedule="dynamic", chunksize=ROWS, num_threads=n_threads):
            c = k if before.shape[0] > 1 else 0
            for g in range(mean1.shape[1]):
                change[k, g] = log2((expm1(mean1[k, g]) + pseudocount) / before[c, g])
