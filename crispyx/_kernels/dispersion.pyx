"""Dispersions of every gene, from all groups together or from the control and each other group.

The means are held, so the nodes, their weights and the weights of the counts are laid out once for a
gene; a step of the search for the best log dispersion then costs as much as there are nodes and
distinct counts, whatever the number of cells.
"""

from libc.math cimport NAN, copysign, exp, fabs, isnan, log
from libc.string cimport memcpy, memset
from cython.parallel cimport prange, threadid

from crispyx._kernels.node_sums cimport (
    Arm, Slopes, Table, add_tail, dispersion_slopes, group_of, int64, moments_of_run, n_clamped,
    tail_length, tail_slopes, value_t, weigh_cells, weigh_counts,
)

cdef enum:
    MAX_ITERATIONS = 200
    N_SCALARS = 3  # of an arm, after its weights: log mean, clamped cells, counts in them

cdef double SMALLEST = 1e-8
cdef double NO_MEAN = -700  # log mean of an arm without counts whose cells are all clamped
cdef double LARGEST_STEP = 2
cdef double TOLERANCE = 1e-7
cdef double FLAT_GRADIENT = 1e-5

cdef struct Gene:
    const Table* table
    double* arms              # (n_groups, 2 * n_nodes + N_SCALARS)
    Py_ssize_t first          # groups first to last - 1 take part beside group 0
    Py_ssize_t last
    const double* tail
    Py_ssize_t n_tail
    double min_mu
    double center             # of the prior
    double precision          # of the prior, 0 without one


def normalized_moments(
    const value_t[::1] values,        # IN (nnz,)
    const int[::1] ranks,             # IN (nnz,), of each cell in its group, by size factor
    const int64[:, ::1] run_ptr,      # IN (n_genes, n_groups + 1)
    const int64[::1] cell_ptr,        # IN (n_groups + 1,)
    const double[::1] size_factors,   # IN (n_members,), rising in each group
    double[:, ::1] mean,              # OUT (n_groups, n_genes), of y / s
    double[:, ::1] squares,           # OUT (n_groups, n_genes), of y / s about its mean
    int n_threads,
):
    """Fill mean and sum of squares of y / s; zeros enter in closed form."""
    cdef Py_ssize_t g, k, n
    cdef const value_t* y = &values[0] if values.shape[0] > 0 else NULL
    cdef const int* rank = &ranks[0] if ranks.shape[0] > 0 else NULL
    with nogil:
        for g in prange(run_ptr.shape[0], schedule="dynamic", chunksize=8, num_threads=n_threads):
            for k in range(cell_ptr.shape[0] - 1):
                n = cell_ptr[k + 1] - cell_ptr[k]
                mean[k, g] = squares[k, g] = NAN
                if n > 0:
                    moments_of_run(
                        y + run_ptr[g, k], rank + run_ptr[g, k], run_ptr[g, k + 1] - run_ptr[g, k],
                        &size_factors[cell_ptr[k]], n, &mean[k, g], &squares[k, g],
                    )


def fit_dispersions(
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
    const double[:, ::1] mean,        # IN (n_groups, n_genes), of y / s
    const double[:, ::1] start,       # IN (n_fits, n_genes), dispersion; NaN is not fitted
    const double[::1] precision,      # IN (n_fits,), of the prior about the start; 0 for none
    const double[::1] upper,          # IN (n_fits,)
    bint shared,
    bint stop_where_flat,
    double min_mu,
    double[:, ::1] scratch,  # SCRATCH (n_threads, n_groups * (2 * n_nodes + 3) + 3 * (largest count + 1))
    double[:, ::1] out,               # OUT (n_fits, n_genes)
    int n_threads,
):
    """Fill the dispersions that minimize the adjusted loss.

    ``shared`` fits one row from all groups; otherwise row k - 1 is fitted from groups 0 and k.
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
            fit_gene(
                &table, n_groups, first_value, first_rank, &run_ptr[g, 0], &mean[0, g],
                &start[0, g], start.shape[1], &precision[0], &upper[0], shared, stop_where_flat,
                min_mu, &scratch[t, 0], &out[0, g],
            )


cdef void fit_gene(
    const Table* table, Py_ssize_t n_groups, const value_t* values, const int* ranks,
    const int64* run_ptr, const double* mean, const double* start, Py_ssize_t stride,
    const double* precision, const double* upper, bint shared, bint stop_where_flat, double min_mu,
    double* scratch, double* out,
) noexcept nogil:
    cdef Gene gene
    cdef Py_ssize_t k, record = 2 * table.n_nodes + N_SCALARS
    cdef Py_ssize_t n_tail = tail_length(values + run_ptr[0], run_ptr[n_groups] - run_ptr[0])
    cdef double* tail = scratch + n_groups * record
    cdef double* control_tail = tail + 2 * n_tail
    gene.table, gene.arms, gene.min_mu, gene.n_tail = table, scratch, min_mu, n_tail
    gene.tail = tail
    memset(tail, 0, 2 * n_tail * sizeof(double))
    prepare(&gene, 0, values, ranks, run_ptr, mean[0])
    if shared:
        if isnan(start[0]):
            out[0] = NAN
            return
        add_tail(tail, values + run_ptr[0], run_ptr[n_groups] - run_ptr[0], n_tail)
        for k in range(1, n_groups):
            prepare(&gene, k, values, ranks, run_ptr, mean[k * stride])
        gene.first, gene.last = 1, n_groups
        out[0] = best_dispersion(&gene, start[0], precision[0], upper[0], stop_where_flat)
        return
    add_tail(tail, values + run_ptr[0], run_ptr[1] - run_ptr[0], n_tail)
    memcpy(control_tail, tail, n_tail * sizeof(double))
    for k in range(1, n_groups):
        if isnan(start[(k - 1) * stride]):
            out[(k - 1) * stride] = NAN
            continue
        prepare(&gene, k, values, ranks, run_ptr, mean[k * stride])
        memcpy(tail, control_tail, n_tail * sizeof(double))
        add_tail(tail, values + run_ptr[k], run_ptr[k + 1] - run_ptr[k], n_tail)
        gene.first, gene.last = k, k + 1
        out[(k - 1) * stride] = best_dispersion(
            &gene, start[(k - 1) * stride], precision[k - 1], upper[k - 1], stop_where_flat
        )


cdef void prepare(Gene* gene, Py_ssize_t k, const value_t* values, const int* ranks,
                  const int64* run_ptr, double mean) noexcept nogil:
    """Lay out the weights of group ``k``; a log mean of NaN says that it has none."""
    cdef Py_ssize_t n_nodes = gene.table.n_nodes, n = run_ptr[k + 1] - run_ptr[k]
    cdef double* record = gene.arms + k * (2 * n_nodes + N_SCALARS)
    cdef Arm arm
    arm.group = group_of(gene.table, k)
    arm.w, arm.v, arm.min_mu = record, record + n_nodes, gene.min_mu
    record[2 * n_nodes] = NAN
    if arm.group.n == 0:
        return
    if mean == 0 and gene.min_mu == 0:
        return
    record[2 * n_nodes] = log(mean) if mean > 0 else NO_MEAN
    weigh_cells(&arm, n_clamped(&arm.group, record[2 * n_nodes], gene.min_mu))
    weigh_counts(&arm, values + run_ptr[k], ranks + run_ptr[k], n)
    record[2 * n_nodes + 1], record[2 * n_nodes + 2] = arm.cut, arm.y_below


cdef Slopes loss_slopes(const Gene* gene, double a) noexcept nogil:
    """Return the first two derivatives of the adjusted loss in the log dispersion."""
    cdef Py_ssize_t k, n_nodes = gene.table.n_nodes
    cdef double alpha = exp(a)
    cdef double* record
    cdef Slopes total = tail_slopes(gene.tail, gene.n_tail, alpha), part
    cdef Arm arm
    total.first = (a - gene.center) * gene.precision - total.first
    total.second = gene.precision - total.second
    arm.min_mu = gene.min_mu
    for k in range(gene.first - 1, gene.last):
        if k == gene.first - 1:
            record, arm.group = gene.arms, group_of(gene.table, 0)
        else:
            record = gene.arms + k * (2 * n_nodes + N_SCALARS)
            arm.group = group_of(gene.table, k)
        if isnan(record[2 * n_nodes]):
            continue
        arm.w, arm.v = record, record + n_nodes
        arm.cut, arm.y_below = <Py_ssize_t> record[2 * n_nodes + 1], record[2 * n_nodes + 2]
        part = dispersion_slopes(&arm, record[2 * n_nodes], alpha)
        total.first += part.first
        total.second += part.second
    return total


cdef double best_dispersion(Gene* gene, double start, double precision, double upper,
                            bint stop_where_flat) noexcept nogil:
    """Newton's method within a bracket, as ``reference.dispersion.minimize_on_interval``."""
    cdef double low = log(SMALLEST), high = log(upper), x = log(start), left, right, step, new
    cdef bint seen_left = False, seen_right = False
    cdef Slopes slopes
    cdef int i
    gene.center, gene.precision = x, precision
    x = min(max(x, low), high)
    left, right = low, high
    for i in range(MAX_ITERATIONS):
        slopes = loss_slopes(gene, x)
        if projected(slopes.first, x, low, high) == 0:
            break
        if i == 0 and stop_where_flat and fabs(slopes.first) <= FLAT_GRADIENT:
            break
        if slopes.first > 0:
            right, seen_right = x, True
        else:
            left, seen_left = x, True
        if slopes.second > 0:
            step = -slopes.first / slopes.second
        else:
            step = -copysign(LARGEST_STEP, slopes.first)
        new = x + min(max(step, -LARGEST_STEP), LARGEST_STEP)
        if new <= left:
            new = (left + x) / 2 if seen_left else left
        elif new >= right:
            new = (right + x) / 2 if seen_right else right
        step = new - x
        x = new
        if fabs(step) <= TOLERANCE:
            break
    return exp(x)


cdef double projected(double slope, double x, double low, double high) noexcept nogil:
    """Return the slope, 0 where it points out of the interval."""
    return 0 if (x <= low and slope > 0) or (x >= high and slope < 0) else slope
