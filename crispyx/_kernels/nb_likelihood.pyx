"""Lagrange rows of size factors, and the likelihood of every (gene, group) from them.

A sum over n cells of a function that is smooth in the log size factor is a sum over a few Chebyshev
nodes with the summed Lagrange rows as weights. The rows of the cells from any rank on are summed as
well, since clamped means leave out the cells of lowest size factor.
"""

from cython.parallel cimport prange, threadid

from crispyx._kernels.node_sums cimport (
    STRIDE, Arm, Slopes, Table, add_tail, dispersion_slopes, group_of, information, int64,
    kernel_loglikelihood, n_clamped, score, tail_loglikelihood, tail_slopes, value_t, weigh_cells,
    weigh_counts,
)


def lagrange_rows(
    const double[::1] places,     # IN (n_cells,), in [-1, 1]
    const double[::1] nodes,      # IN (n_nodes,), in [-1, 1]
    const double[::1] barycentric,  # IN (n_nodes,)
    double[:, ::1] rows,          # OUT (n_cells, n_nodes), each adds up to 1
    double[:, ::1] suffix,        # OUT (ceil(n_cells / 8) + 1, n_nodes)
    int n_threads,
):
    """Fill the rows of every cell, and their sums from every eighth cell on."""
    cdef Py_ssize_t i, j, b, n = places.shape[0], n_nodes = nodes.shape[0]
    with nogil:
        for i in prange(n, schedule="static", num_threads=n_threads):
            fill_row(places[i], &nodes[0], &barycentric[0], n_nodes, &rows[i, 0])
        for j in range(n_nodes):
            suffix[suffix.shape[0] - 1, j] = 0
        for b in range(suffix.shape[0] - 2, -1, -1):
            for j in range(n_nodes):
                suffix[b, j] = suffix[b + 1, j]
            for i in range(min((b + 1) * STRIDE, n) - 1, b * STRIDE - 1, -1):
                for j in range(n_nodes):
                    suffix[b, j] += rows[i, j]


cdef void fill_row(double place, const double* nodes, const double* barycentric,
                   Py_ssize_t n_nodes, double* row) noexcept nogil:
    cdef Py_ssize_t j, at = -1
    cdef double total = 0
    for j in range(n_nodes):
        if place == nodes[j]:
            at = j
            break
        row[j] = barycentric[j] / (place - nodes[j])
        total += row[j]
    for j in range(n_nodes):
        if at >= 0:
            row[j] = 1 if j == at else 0
        else:
            row[j] /= total


def likelihood_sums(
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
    const double[:, ::1] eta,         # IN (n_groups, n_genes)
    const double[:, ::1] alpha,       # IN (n_groups, n_genes)
    double min_mu,
    double[:, ::1] scratch,           # SCRATCH (n_threads, 2 * n_nodes + 2 * n_tail)
    double[:, :, ::1] out,            # OUT (6, n_groups, n_genes)
    int n_threads,
):
    """Fill log-likelihood, score, observed and expected information, both slopes in log alpha.

    Score and information are of the cells that are not clamped; the slopes are of minus the
    log-likelihood plus half the log of the information.
    """
    cdef Py_ssize_t g, k
    cdef int t
    cdef Py_ssize_t n_groups = cell_ptr.shape[0] - 1
    cdef Py_ssize_t n_tail = (scratch.shape[1] - 2 * rows.shape[1]) // 2
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
            for k in range(n_groups):
                one_run(
                    &table, k, first_value + run_ptr[g, k], first_rank + run_ptr[g, k],
                    run_ptr[g, k + 1] - run_ptr[g, k], eta[k, g], alpha[k, g], min_mu,
                    &scratch[t, 0], n_tail, &out[0, k, g], out.shape[1] * out.shape[2],
                )


cdef void one_run(
    const Table* table, Py_ssize_t k, const value_t* y, const int* ranks, Py_ssize_t n_values,
    double eta, double alpha, double min_mu, double* scratch, Py_ssize_t n_tail, double* out,
    Py_ssize_t stride,
) noexcept nogil:
    cdef Arm arm
    cdef Slopes slopes, tail_part
    cdef double w1, w2
    cdef double* tail = scratch + 2 * table.n_nodes
    cdef Py_ssize_t j
    arm.group = group_of(table, k)
    arm.w, arm.v, arm.min_mu = scratch, scratch + table.n_nodes, min_mu
    weigh_cells(&arm, n_clamped(&arm.group, eta, min_mu))
    weigh_counts(&arm, y, ranks, n_values)
    for j in range(2 * n_tail):
        tail[j] = 0
    add_tail(tail, y, n_values, n_tail)
    out[0] = kernel_loglikelihood(&arm, eta, alpha) + tail_loglikelihood(tail, n_tail, alpha)
    slopes = score(&arm, eta, alpha)
    out[stride], out[2 * stride] = slopes.first, slopes.second
    information(&arm, eta, alpha, &out[3 * stride], &w1, &w2)
    slopes = dispersion_slopes(&arm, eta, alpha)
    tail_part = tail_slopes(tail, n_tail, alpha)
    out[4 * stride] = slopes.first - tail_part.first
    out[5 * stride] = slopes.second - tail_part.second
