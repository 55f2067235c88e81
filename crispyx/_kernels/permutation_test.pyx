"""How many random sets of cells reach the score of the perturbed ones.

The residual of a cell without a count is smooth in its size factor, so a set's share of them is a sum
at nodes, shared by all genes; counts are then added to the sets that hold their cells.
"""

from libc.math cimport NAN, exp, sqrt
from cython.parallel cimport prange, threadid

from crispyx._kernels.log_means cimport best_log_mean, empirical_fill, lay_out
from crispyx._kernels.node_sums cimport Arm, Table, int64, score, value_t

cdef double TIE = 1e-9


def count_reaching_sets(
    const value_t[::1] values,        # IN (nnz,)
    const int[::1] ranks,             # IN (nnz,), of each cell in its arm, by size factor
    const int64[:, ::1] run_ptr,      # IN (n_genes, n_groups * n_batches + 1)
    const int64[::1] cell_ptr,        # IN (n_groups * n_batches + 1,)
    const int64[::1] suffix_ptr,      # IN (n_groups * n_batches + 1,)
    const double[::1] size_factors,   # IN (n_members,), rising in each arm
    const double[:, ::1] rows,        # IN (n_members, n_nodes)
    const double[:, ::1] suffix,      # IN (n_suffixes, n_nodes)
    const double[:, ::1] node_s,      # IN (n_groups * n_batches, n_nodes)
    const double[:, ::1] node_log,    # IN (n_groups * n_batches, n_nodes)
    const double[::1] prefix_log,     # IN (n_members + n_groups * n_batches,)
    Py_ssize_t n_batches,
    Py_ssize_t group,
    const int64[::1] genes,           # IN (n_tested,), genes of the block to test
    const double[::1] alpha,          # IN (n_tested,)
    const double[:, :, ::1] weights,  # IN (n_batches, n_sets, 2 * n_nodes), of both arms' nodes
    const int64[::1] first_cell,      # IN (n_batches,), where a batch starts in holder_ptr
    const int64[::1] holder_ptr,      # IN (n,), of the control's and then the perturbed cells of a batch
    const int[::1] holders,           # IN (n_held,), the sets that hold each cell
    double[:, ::1] scratch,           # SCRATCH (n_threads, 4 * n_nodes + n_sets)
    double[::1] observed,             # OUT (n_tested,), the score; NaN where nothing is tested
    int64[::1] reaching,              # OUT (n_tested,)
    int n_threads,
):
    """Fill the scores, and how many sets lie as far out on the same side.

    Arm ``b * n_groups + k`` holds the cells of group k in batch b.
    """
    cdef Py_ssize_t i, n_groups = (cell_ptr.shape[0] - 1) // n_batches
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
        for i in prange(genes.shape[0], schedule="dynamic", num_threads=n_threads):
            t = threadid()
            count_for_gene(
                &table, n_groups, n_batches, group, first_value, first_rank, &run_ptr[genes[i], 0], alpha[i],
                &weights[0, 0, 0], weights.shape[1], &first_cell[0], &holder_ptr[0], &holders[0],
                &scratch[t, 0], &observed[i], &reaching[i],
            )


cdef void count_for_gene(
    const Table* table, Py_ssize_t n_groups, Py_ssize_t n_batches, Py_ssize_t group,
    const value_t* values, const int* ranks, const int64* run_ptr, double alpha,
    const double* weights, Py_ssize_t n_sets, const int64* first_cell, const int64* holder_ptr, const int* holders,
    double* scratch, double* observed, int64* reaching,
) noexcept nogil:
    cdef Py_ssize_t n_nodes = table.n_nodes, b, d, at, here
    cdef double* sums = scratch + 4 * n_nodes
    cdef double u = 0, squares = 0, scale
    cdef const double* weight
    cdef bint tested = False
    cdef Arm control, perturbed
    control.w, control.v = scratch, scratch + n_nodes
    perturbed.w, perturbed.v = scratch + 2 * n_nodes, scratch + 3 * n_nodes
    for d in range(n_sets):
        sums[d] = 0
    for b in range(n_batches):
        here = b * n_groups
        at = here + group
        if table.cell_ptr[here + 1] == table.cell_ptr[here] or (
            table.cell_ptr[at + 1] == table.cell_ptr[at]
        ):
            continue
        lay_out(&control, table, here, values, ranks, run_ptr)
        lay_out(&perturbed, table, at, values, ranks, run_ptr)
        if control.y_above + perturbed.y_above == 0:
            continue
        tested = True
        scale = best_log_mean(&control, &perturbed, alpha)
        u += score(&perturbed, scale, alpha).first
        squares += empirical_fill(&control, values + run_ptr[here], ranks + run_ptr[here],
                                  run_ptr[here + 1] - run_ptr[here], scale, alpha)
        squares += empirical_fill(&perturbed, values + run_ptr[at], ranks + run_ptr[at],
                                  run_ptr[at + 1] - run_ptr[at], scale, alpha)
        scale = exp(scale)
        weight = weights + b * n_sets * 2 * n_nodes
        # The weights of cells and counts are not needed any more: residuals of zeros at the nodes.
        residuals_at_nodes(&control, scale, alpha, scratch)
        residuals_at_nodes(&perturbed, scale, alpha, scratch + n_nodes)
        add_zeros(weight, scratch, 2 * n_nodes, n_sets, sums)
        add_counts(&control, values + run_ptr[here], ranks + run_ptr[here],
                   run_ptr[here + 1] - run_ptr[here], scale, alpha, holder_ptr + first_cell[b], holders,
                   sums)
        add_counts(&perturbed, values + run_ptr[at], ranks + run_ptr[at],
                   run_ptr[at + 1] - run_ptr[at], scale, alpha,
                   holder_ptr + first_cell[b] + control.group.n, holders, sums)
    reaching[0] = 0
    observed[0] = u if tested else NAN
    scale = TIE * sqrt(squares)
    for d in range(n_sets):
        if (sums[d] - u if u >= 0 else u - sums[d]) >= -scale:
            reaching[0] += 1


cdef void residuals_at_nodes(const Arm* arm, double scale, double alpha,
                             double* out) noexcept nogil:
    cdef Py_ssize_t j
    cdef double m
    for j in range(arm.group.n_nodes):
        m = scale * arm.group.node_s[j]
        out[j] = -m / (1 + alpha * m)


cdef void add_zeros(const double* weights, const double* residuals, Py_ssize_t n,
                    Py_ssize_t n_sets, double* sums) noexcept nogil:
    cdef Py_ssize_t d, j
    cdef double total
    for d in range(n_sets):
        total = 0
        for j in range(n):
            total += weights[d * n + j] * residuals[j]
        sums[d] += total


cdef void add_counts(
    const Arm* arm, const value_t* y, const int* ranks, Py_ssize_t n, double scale, double alpha,
    const int64* holder_ptr, const int* holders, double* sums,
) noexcept nogil:
    """Add what counts change in the residuals of their cells to the sets that hold them."""
    cdef Py_ssize_t i, h
    cdef double change
    for i in range(n):
        change = y[i] / (1 + alpha * scale * arm.group.size_factors[ranks[i]])
        for h in range(holder_ptr[ranks[i]], holder_ptr[ranks[i] + 1]):
            sums[holders[h]] += change
