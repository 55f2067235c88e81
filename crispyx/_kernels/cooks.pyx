"""An upper bound of Cook's distances of every comparison, to find the few worth the full formula.

The robust dispersion is at least 0.04, and a larger one makes distances smaller: with 0.04 in its
place no sorting is needed, and a gene whose bound is below the cutoff has no outlier.
"""

from libc.math cimport NAN, exp, isnan
from cython.parallel cimport prange, threadid

from crispyx._kernels.node_sums cimport (
    Arm, Table, group_of, information, int64, n_clamped, value_t, weigh_cells,
)

cdef double RIDGE = 1e-6
cdef double SMALLEST_ROBUST_DISPERSION = 0.04


def bound_distances(
    const value_t[::1] values,        # IN (nnz,)
    const int[::1] ranks,             # IN (nnz,), of each cell in its group, by size factor
    const int64[:, ::1] run_ptr,      # IN (n_genes, n_groups + 1)
    const int64[::1] cell_ptr,        # IN (n_groups + 1,)
    const int64[::1] suffix_ptr,      # IN (n_groups + 1,)
    const double[::1] size_factors,   # IN (n_members,), rising in each group
    const double[:, ::1] rows,        # IN (n_members, n_nodes)
    const double[:, ::1] suffix,      # IN (n_suffixes, n_nodes)
    const double[:, ::1] node_s,      # IN (n_groups, n_nodes)
    const double[:, ::1] node_log,    # IN (n_groups, n_nodes)
    const double[::1] prefix_log,     # IN (n_members + n_groups,)
    const double[:, ::1] intercept,   # IN (n_groups - 1, n_genes), NaN is left out
    const double[:, ::1] change,      # IN (n_groups - 1, n_genes), log fold change
    const double[:, ::1] alpha,       # IN (n_groups - 1, n_genes)
    double min_mu,
    double[:, ::1] scratch,           # SCRATCH (n_threads, n_nodes)
    double[:, ::1] bound,             # OUT (n_groups - 1, n_genes)
    int n_threads,
):
    """Fill a number that no distance of the comparison exceeds."""
    cdef Py_ssize_t g, k, n_groups = cell_ptr.shape[0] - 1
    cdef int t
    cdef Table table
    table.cell_ptr, table.suffix_ptr = &cell_ptr[0], &suffix_ptr[0]
    table.size_factors, table.rows = &size_factors[0], &rows[0, 0]
    table.suffix, table.prefix_log = &suffix[0, 0], &prefix_log[0]
    table.node_s, table.node_log = &node_s[0, 0], &node_log[0, 0]
    table.n_nodes = rows.shape[1]
    cdef const value_t* first_value = &values[0] if values.shape[0] > 0 else NULL
    cdef const int* first_rank = &ranks[0] if ranks.shape[0] > 0 else NULL
    with nogil:
        for g in prange(run_ptr.shape[0], schedule="dynamic", num_threads=n_threads):
            t = threadid()
            for k in range(1, n_groups):
                bound[k - 1, g] = bound_of_pair(
                    &table, k, first_value, first_rank, &run_ptr[g, 0], intercept[k - 1, g],
                    change[k - 1, g], alpha[k - 1, g], min_mu, &scratch[t, 0],
                )


cdef double bound_of_pair(
    const Table* table, Py_ssize_t k, const value_t* values, const int* ranks,
    const int64* run_ptr, double intercept, double change, double alpha, double min_mu,
    double* scratch,
) noexcept nogil:
    cdef double w0, w1, det, first, second
    if isnan(intercept):
        return NAN
    w0 = clamped_information(table, 0, intercept, alpha, min_mu, scratch)
    w1 = clamped_information(table, k, intercept + change, alpha, min_mu, scratch)
    det = w0 * w1 + RIDGE * (w0 + 2 * w1 + RIDGE)
    first = bound_of_arm(table, 0, values, ranks, run_ptr, intercept, alpha, min_mu,
                         (w1 + RIDGE) / det)
    second = bound_of_arm(table, k, values, ranks, run_ptr, intercept + change, alpha, min_mu,
                          (w0 + 2 * RIDGE) / det)
    return max(first, second)


cdef double clamped_information(const Table* table, Py_ssize_t k, double eta, double alpha,
                                double min_mu, double* scratch) noexcept nogil:
    cdef Arm arm
    cdef double w, ignored, ignored2
    arm.group, arm.w = group_of(table, k), scratch
    weigh_cells(&arm, n_clamped(&arm.group, eta, min_mu))
    information(&arm, eta, alpha, &w, &ignored, &ignored2)
    return w + arm.cut * min_mu / (1 + alpha * min_mu)


cdef double bound_of_arm(const Table* table, Py_ssize_t k, const value_t* values, const int* ranks,
                         const int64* run_ptr, double eta, double alpha, double min_mu,
                         double shape) noexcept nogil:
    cdef double scale = exp(eta), mu, largest, d, squares = 0
    cdef const double* size_factors = table.size_factors + table.cell_ptr[k]
    cdef Py_ssize_t i, n = table.cell_ptr[k + 1] - table.cell_ptr[k]
    if n == 0:
        return 0
    # A zero in the deepest cell has the largest residual of all zeros, and every leverage is at
    # most that of the deepest cell.
    mu = scale * size_factors[n - 1]
    squares = mu / (1 + SMALLEST_ROBUST_DISPERSION * mu)
    largest = max(mu, min_mu)
    largest = largest / (1 + alpha * largest) * shape
    if largest >= 1:
        return 1e300
    for i in range(run_ptr[k], run_ptr[k + 1]):
        mu = scale * size_factors[ranks[i]]
        d = values[i] - mu
        squares = max(squares, d * d / (mu + SMALLEST_ROBUST_DISPERSION * mu * mu))
    return squares / 2 * largest / ((1 - largest) * (1 - largest))
