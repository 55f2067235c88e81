"""Log means of the control and of each perturbation, and the sums their tests need.

Without a clamp the arms do not touch: the control is fitted once for a gene and dispersion, at a cost
that does not depend on the number of its cells. The clamped iteration is PyDESeq2's, step by step:
the weights of the counts follow the few cells that a step moves across the clamp.
"""

from libc.math cimport NAN, fabs, isnan, log
from libc.string cimport memcpy, memset
from cython.parallel cimport prange, threadid

from crispyx._kernels.node_sums cimport (
    Arm, Table, add_tail, group_of, information, int64, kernel_loglikelihood,
    move_clamp, n_clamped, normalized_logs, score, tail_length, tail_loglikelihood, total_size,
    total_of_doubles, total_of_floats, value_t, weigh_cells, weigh_counts,
)
from crispyx._kernels.log_means cimport (
    Fit, empirical_fill, lay_out, likelihood_ratio_root, root,
)

ctypedef unsigned char uint8

cdef enum:
    N_OUT = 7  # intercept, log fold change, information of both arms, both empirical fills, silent z
    AT_ZERO = 0
    AT_POISSON = 1
    AT_LEAST_SQUARES = 2
    TO_RESCUE = 2

cdef double RIDGE = 1e-6
cdef double LARGEST_COEFFICIENT = 30
cdef double PSEUDOCOUNT = 0.1

cdef struct Sums:
    double weight
    double working


def best_coefficients(
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
    const double[:, ::1] alpha,       # IN (n_groups - 1, n_genes), NaN is not fitted
    bint start_at_poisson,
    bint penalized,                   # Firth's penalty in every arm
    int64 max_iterations,
    double tolerance,
    bint with_fills,
    double[:, ::1] scratch,           # SCRATCH (n_threads, 4 * n_nodes)
    double[:, :, ::1] out,            # OUT (7, n_groups - 1, n_genes)
    int64[:, ::1] iterations,         # OUT (n_groups - 1, n_genes)
    uint8[:, ::1] converged,          # OUT (n_groups - 1, n_genes)
    int n_threads,
):
    """Fill the coefficients of highest likelihood; a silent arm is fitted with Firth's penalty.

    The last table is the signed root of the likelihood ratio where one arm is silent, else NaN; it
    is NaN everywhere when all arms are fitted with the penalty.
    """
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
            best_of_gene(
                &table, n_groups, first_value, first_rank, &run_ptr[g, 0], &alpha[0, g],
                start_at_poisson, penalized, max_iterations, tolerance, with_fills, &scratch[t, 0],
                &out[0, 0, g], &iterations[0, g], &converged[0, g], out.shape[2],
                out.shape[1] * out.shape[2],
            )


cdef void best_of_gene(
    const Table* table, Py_ssize_t n_groups, const value_t* values, const int* ranks,
    const int64* run_ptr, const double* alphas, bint start_at_poisson, bint penalized,
    int64 max_iterations, double tolerance, bint with_fills, double* scratch, double* out,
    int64* iterations, uint8* converged, Py_ssize_t stride, Py_ssize_t table_stride,
) noexcept nogil:
    cdef Arm control, perturbed
    cdef Fit fit0, fit1
    cdef double alpha, last_alpha = NAN, w0 = NAN, fill0 = NAN, w1, fill1 = NAN, ignored, ignored2
    cdef Py_ssize_t k, at, n_nodes = table.n_nodes
    fit0.eta, fit0.iterations, fit0.converged = NAN, 0, False
    control.w, control.v = scratch, scratch + n_nodes
    perturbed.w, perturbed.v = scratch + 2 * n_nodes, scratch + 3 * n_nodes
    lay_out(&control, table, 0, values, ranks, run_ptr)
    for k in range(1, n_groups):
        at = (k - 1) * stride
        alpha = alphas[at]
        lay_out(&perturbed, table, k, values, ranks, run_ptr)
        if isnan(alpha) or control.y_above + perturbed.y_above == 0 or perturbed.group.n == 0:
            leave_out(out + at, table_stride)
            iterations[at], converged[at] = 0, False
            continue
        if alpha != last_alpha:
            fit0 = fit_arm(&control, alpha, start_at_poisson, penalized, max_iterations,
                           tolerance)
            information(&control, fit0.eta, alpha, &w0, &ignored, &ignored2)
            if with_fills:
                fill0 = empirical_fill(&control, values + run_ptr[0], ranks + run_ptr[0],
                                       run_ptr[1] - run_ptr[0], fit0.eta, alpha)
            last_alpha = alpha
        fit1 = fit_arm(&perturbed, alpha, start_at_poisson, penalized, max_iterations, tolerance)
        information(&perturbed, fit1.eta, alpha, &w1, &ignored, &ignored2)
        if with_fills:
            fill1 = empirical_fill(&perturbed, values + run_ptr[k], ranks + run_ptr[k],
                                   run_ptr[k + 1] - run_ptr[k], fit1.eta, alpha)
        out[at], out[table_stride + at] = fit0.eta, fit1.eta - fit0.eta
        out[2 * table_stride + at], out[3 * table_stride + at] = w0, w1
        out[4 * table_stride + at], out[5 * table_stride + at] = fill0, fill1
        out[6 * table_stride + at] = NAN
        if not penalized and (control.y_above == 0 or perturbed.y_above == 0):
            out[6 * table_stride + at] = likelihood_ratio_root(
                &control, &perturbed, fit0.eta, fit1.eta, alpha
            )
        iterations[at] = max(fit0.iterations, fit1.iterations)
        converged[at] = fit0.converged and fit1.converged


cdef void leave_out(double* out, Py_ssize_t table_stride) noexcept nogil:
    cdef int i
    for i in range(N_OUT):
        out[i * table_stride] = NAN


cdef Fit fit_arm(const Arm* arm, double alpha, bint start_at_poisson, bint penalized,
                 int64 max_iterations, double tolerance) noexcept nogil:
    cdef double start = 0
    if penalized or arm.y_above == 0:
        start = log((arm.y_above + 0.5) / total_size(arm))
        return root(arm, NULL, True, alpha, start, max_iterations, tolerance)
    if start_at_poisson:
        start = log(arm.y_above / total_size(arm))
    return root(arm, NULL, False, alpha, start, max_iterations, tolerance)


def clamped_coefficients(
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
    const double[:, ::1] alpha,       # IN (n_groups - 1, n_genes), NaN is not fitted
    int start,                        # 0 at zero, 1 Poisson, 2 least squares of logs
    double min_mu,
    int64 max_iterations,
    double tolerance,
    bint with_fills,
    double[:, ::1] scratch,           # SCRATCH (n_threads, 5 * n_nodes + 3 * (largest count + 1))
    double[:, :, ::1] out,            # OUT (7, n_groups - 1, n_genes), the last NaN
    int64[:, ::1] iterations,         # OUT (n_groups - 1, n_genes)
    uint8[:, ::1] converged,          # OUT (n_groups - 1, n_genes), 2 where a coefficient left +-30
    int n_threads,
):
    """Fill the coefficients of PyDESeq2's iteration, as ``reference.iterate_clamped``."""
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
            clamped_of_gene(
                &table, n_groups, first_value, first_rank, &run_ptr[g, 0], &alpha[0, g], start,
                min_mu, max_iterations, tolerance, with_fills, &scratch[t, 0], &out[0, 0, g],
                &iterations[0, g], &converged[0, g], out.shape[2], out.shape[1] * out.shape[2],
            )


cdef void clamped_of_gene(
    const Table* table, Py_ssize_t n_groups, const value_t* values, const int* ranks,
    const int64* run_ptr, const double* alphas, int start, double min_mu, int64 max_iterations,
    double tolerance, bint with_fills, double* scratch, double* out, int64* iterations,
    uint8* converged, Py_ssize_t stride, Py_ssize_t table_stride,
) noexcept nogil:
    cdef Arm control, perturbed, first
    cdef Py_ssize_t k, at, n_nodes = table.n_nodes
    cdef Py_ssize_t n_tail = tail_length(values + run_ptr[0], run_ptr[n_groups] - run_ptr[0])
    cdef double* saved = scratch + 4 * n_nodes
    cdef double* control_tail = scratch + 5 * n_nodes
    cdef double* tail = control_tail + n_tail
    cdef double alpha, start0, start1, last_alpha = NAN, constant0 = 0, constant
    memset(tail, 0, 2 * n_tail * sizeof(double))
    add_tail(tail, values + run_ptr[0], run_ptr[1] - run_ptr[0], n_tail)
    memcpy(control_tail, tail, n_tail * sizeof(double))
    start0 = lay_out_clamped(&control, table, 0, values, ranks, run_ptr, min_mu, start, scratch)
    memcpy(saved, control.v, n_nodes * sizeof(double))
    first = control
    for k in range(1, n_groups):
        at = (k - 1) * stride
        alpha = alphas[at]
        leave_out(out + at, table_stride)
        iterations[at], converged[at] = 0, False
        if isnan(alpha) or table.cell_ptr[k + 1] == table.cell_ptr[k] or (
            run_ptr[1] == run_ptr[0] and run_ptr[k + 1] == run_ptr[k]
        ):
            continue
        # From the same weights for every perturbation, whichever others are asked for.
        control = first
        memcpy(control.v, saved, n_nodes * sizeof(double))
        weigh_cells(&control, first.cut)
        start1 = lay_out_clamped(&perturbed, table, k, values, ranks, run_ptr, min_mu, start,
                                 scratch + 2 * n_nodes)
        if alpha != last_alpha:
            constant0 = tail_loglikelihood(control_tail, n_tail, alpha)
            last_alpha = alpha
        memset(tail, 0, n_tail * sizeof(double))
        add_tail(tail, values + run_ptr[k], run_ptr[k + 1] - run_ptr[k], n_tail)
        constant = constant0 + tail_loglikelihood(tail, n_tail, alpha)
        iterate(&control, &perturbed, k, values, ranks, run_ptr, alpha, start0, start1, constant,
                max_iterations, tolerance, out + at, table_stride, iterations + at, converged + at)
        finish_arm(&control, values + run_ptr[0], ranks + run_ptr[0], run_ptr[1] - run_ptr[0],
                   out[at], alpha, with_fills, out + 2 * table_stride + at,
                   out + 4 * table_stride + at)
        finish_arm(&perturbed, values + run_ptr[k], ranks + run_ptr[k],
                   run_ptr[k + 1] - run_ptr[k], out[at] + out[table_stride + at], alpha,
                   with_fills, out + 3 * table_stride + at, out + 5 * table_stride + at)


cdef double lay_out_clamped(
    Arm* arm, const Table* table, Py_ssize_t k, const value_t* values, const int* ranks,
    const int64* run_ptr, double min_mu, int start, double* weights,
) noexcept nogil:
    """Set the weights at the starting log mean and return that."""
    cdef const value_t* y = values + run_ptr[k]
    cdef const int* rank = ranks + run_ptr[k]
    cdef Py_ssize_t n = run_ptr[k + 1] - run_ptr[k]
    cdef double eta = 0, total
    arm.group, arm.min_mu = group_of(table, k), min_mu
    arm.w, arm.v = weights, weights + table.n_nodes
    if start == AT_POISSON:
        if value_t is float:
            total = total_of_floats(y, n)
        else:
            total = total_of_doubles(y, n)
        weigh_cells(arm, 0)
        eta = log(max(total, 0.5) / total_size(arm))
    elif start == AT_LEAST_SQUARES:
        # log(q + c) of a zero is log c, and log(1 + q / c) more of q > 0.
        eta = normalized_logs(&arm.group, y, rank, n, 1 / PSEUDOCOUNT) / arm.group.n
        eta += log(PSEUDOCOUNT)
    weigh_cells(arm, n_clamped(&arm.group, eta, min_mu))
    weigh_counts(arm, y, rank, n)
    return eta


cdef Sums working_sums(const Arm* arm, double eta, double alpha) noexcept nogil:
    """Return the sums of w and w z at the clamped means."""
    cdef Sums sums
    cdef double ignored, ignored2, q, w
    information(arm, eta, alpha, &sums.weight, &ignored, &ignored2)
    sums.working = eta * sums.weight + score(arm, eta, alpha).first
    if arm.cut > 0:
        q = 1 / (1 + alpha * arm.min_mu)
        w = arm.min_mu * q
        sums.weight += arm.cut * w
        sums.working += w * (arm.cut * log(arm.min_mu) - arm.group.prefix_log[arm.cut])
        sums.working += (arm.y_below - arm.cut * arm.min_mu) * q
    return sums


cdef void iterate(
    Arm* control, Arm* perturbed, Py_ssize_t k, const value_t* values, const int* ranks,
    const int64* run_ptr, double alpha, double start0, double start1, double constant,
    int64 max_iterations, double tolerance, double* out, Py_ssize_t table_stride,
    int64* iterations, uint8* converged,
) noexcept nogil:
    cdef double b0 = start0, b1 = start1 - start0, new0, new1, det, before, deviance = 1000
    cdef Sums a, b
    cdef int64 i
    for i in range(1, max_iterations + 1):
        iterations[0] = i
        a = working_sums(control, b0, alpha)
        b = working_sums(perturbed, b0 + b1, alpha)
        det = a.weight * b.weight + RIDGE * (a.weight + 2 * b.weight + RIDGE)
        new0 = ((b.weight + RIDGE) * (a.working + b.working) - b.weight * b.working) / det
        new1 = ((a.weight + b.weight + RIDGE) * b.working
                - b.weight * (a.working + b.working)) / det
        if not (fabs(new0) <= LARGEST_COEFFICIENT and fabs(new1) <= LARGEST_COEFFICIENT):
            converged[0] = TO_RESCUE
            break
        b0, b1 = new0, new1
        move_clamp(control, values + run_ptr[0], ranks + run_ptr[0], run_ptr[1] - run_ptr[0], b0)
        move_clamp(perturbed, values + run_ptr[k], ranks + run_ptr[k],
                   run_ptr[k + 1] - run_ptr[k], b0 + b1)
        before = deviance
        deviance = 2 * (constant + kernel_loglikelihood(control, b0, alpha)
                        + kernel_loglikelihood(perturbed, b0 + b1, alpha))
        if fabs(deviance - before) <= tolerance * (fabs(deviance) + 0.1):
            converged[0] = True
            break
    out[0], out[table_stride] = b0, b1


cdef void finish_arm(Arm* arm, const value_t* y, const int* ranks, Py_ssize_t n, double eta,
                     double alpha, bint with_fills, double* weight, double* fill) noexcept nogil:
    """Set the information and the empirical fill at the means without a clamp."""
    cdef double ignored, ignored2
    weigh_cells(arm, 0)
    information(arm, eta, alpha, weight, &ignored, &ignored2)
    if with_fills:
        fill[0] = empirical_fill(arm, y, ranks, n, eta, alpha)
