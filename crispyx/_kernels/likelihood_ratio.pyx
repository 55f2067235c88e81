"""Signed roots of likelihood ratios: two log means against one, from node sums.

The control's log mean is fitted once for a gene and dispersion.
"""

from libc.math cimport NAN, isnan
from cython.parallel cimport prange, threadid

from crispyx._kernels.log_means cimport best_log_mean, lay_out, likelihood_ratio_root
from crispyx._kernels.node_sums cimport Arm, Table, int64, value_t


def likelihood_ratio_roots(
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
    const double[:, ::1] alpha,       # IN (n_groups - 1, n_genes), NaN is not tested
    double[:, ::1] scratch,           # SCRATCH (n_threads, 4 * n_nodes)
    double[:, ::1] out,               # OUT (n_groups - 1, n_genes)
    int n_threads,
):
    """Fill the signed roots, NaN where no arm has a count."""
    cdef Py_ssize_t g, n_groups = cell_ptr.shape[0] - 1
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
            roots_of_gene(&table, n_groups, first_value, first_rank, &run_ptr[g, 0], &alpha[0, g],
                          alpha.shape[1], &scratch[t, 0], &out[0, g])


cdef void roots_of_gene(
    const Table* table, Py_ssize_t n_groups, const value_t* values, const int* ranks,
    const int64* run_ptr, const double* alphas, Py_ssize_t stride, double* scratch, double* out,
) noexcept nogil:
    cdef Arm control, perturbed
    cdef double alpha, last_alpha = NAN, eta0 = NAN, eta1
    cdef Py_ssize_t k, n_nodes = table.n_nodes
    control.w, control.v = scratch, scratch + n_nodes
    perturbed.w, perturbed.v = scratch + 2 * n_nodes, scratch + 3 * n_nodes
    lay_out(&control, table, 0, values, ranks, run_ptr)
    for k in range(1, n_groups):
        alpha = alphas[(k - 1) * stride]
        lay_out(&perturbed, table, k, values, ranks, run_ptr)
        out[(k - 1) * stride] = NAN
        if isnan(alpha) or control.y_above + perturbed.y_above == 0 or perturbed.group.n == 0:
            continue
        if alpha != last_alpha:
            last_alpha = alpha
            if control.y_above > 0:
                eta0 = best_log_mean(&control, NULL, alpha)
        eta1 = best_log_mean(&perturbed, NULL, alpha) if perturbed.y_above > 0 else NAN
        out[(k - 1) * stride] = likelihood_ratio_root(&control, &perturbed, eta0, eta1, alpha)
