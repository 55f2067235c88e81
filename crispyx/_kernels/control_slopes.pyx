"""Slopes of numeric covariates among the control cells, beside their categories."""

from libc.math cimport NAN, exp, isnan, log
from libc.string cimport memset
from cython.parallel cimport prange, threadid

from crispyx._kernels.newton cimport Newton, climb
from crispyx._kernels.node_sums cimport int64, value_t

cdef struct Control:
    const int64* cell_ptr         # (n_groups * n_strata + 1,)
    const double* size_factors    # (n_members,)
    const double* numbers         # (n_members, n_numbers)
    const double* design          # (n_strata, n_columns)
    Py_ssize_t n_groups
    Py_ssize_t n_strata
    Py_ssize_t n_columns
    Py_ssize_t n_numbers
    double alpha
    double* dense                 # (n_members,), counts of this gene
    double* totals                # (n_strata,), counts
    double* kept                  # (n_strata,), 1 where the cells take part
    double* cross                 # (n_numbers,)


def n_scratch(
    Py_ssize_t n_members, Py_ssize_t n_strata, Py_ssize_t n_columns, Py_ssize_t n_numbers,
    Py_ssize_t n_levels,
):
    """Return the doubles a thread works on."""
    n = n_columns + n_numbers
    return n_members + 2 * n_strata + n_numbers + 5 * n + 2 * n * n + n_levels


def control_slopes(
    const value_t[::1] values,        # IN (nnz,)
    const int[::1] ranks,             # IN (nnz,), of each cell in its group, by size factor
    const int64[:, ::1] run_ptr,      # IN (n_genes, n_groups * n_strata + 1)
    const int64[::1] cell_ptr,        # IN (n_groups * n_strata + 1,), groups of a stratum in a row
    const double[::1] size_factors,   # IN (n_members,), rising in each group
    const double[::1] alpha,          # IN (n_genes,), NaN is not fitted
    const double[:, ::1] design,      # IN (n_strata, n_columns)
    const int64[:, ::1] levels,       # IN (n_strata, n_covariates), numbered through
    bint diagonal,                    # the design is the identity
    int64 max_iterations,
    double tolerance,
    const double[:, ::1] numbers,     # IN (n_members, n_numbers), by rank
    double[:, ::1] scratch,           # SCRATCH (n_threads, n_scratch)
    double[:, ::1] out,               # OUT (n_numbers, n_genes), 0 where nothing is fitted
    int n_threads,
):
    """Fill the slopes of every gene; as ``reference.covariates.control_slopes``."""
    cdef Py_ssize_t g, n_genes = out.shape[1]
    cdef int t
    cdef Control control
    control.cell_ptr, control.size_factors = &cell_ptr[0], &size_factors[0]
    control.numbers, control.design = &numbers[0, 0], &design[0, 0]
    control.n_strata, control.n_columns = design.shape[0], design.shape[1]
    control.n_groups = (cell_ptr.shape[0] - 1) // design.shape[0]
    control.n_numbers = numbers.shape[1]
    cdef const value_t* first_value = &values[0] if values.shape[0] > 0 else NULL
    cdef const int* first_rank = &ranks[0] if ranks.shape[0] > 0 else NULL
    with nogil:
        for g in prange(n_genes, schedule="dynamic", num_threads=n_threads):
            t = threadid()
            fit_gene(control, first_value, first_rank, &run_ptr[g, 0], alpha[g], &levels[0, 0],
                     levels.shape[1], diagonal, max_iterations, tolerance, &scratch[t, 0],
                     numbers.shape[0], &out[0, g], n_genes)


cdef void fit_gene(
    Control control, const value_t* values, const int* ranks, const int64* run_ptr, double alpha,
    const int64* levels, Py_ssize_t n_covariates, bint diagonal, int64 max_iterations,
    double tolerance, double* scratch, Py_ssize_t n_members, double* out, Py_ssize_t stride,
) noexcept nogil:
    cdef Py_ssize_t j, n = control.n_columns + control.n_numbers
    cdef double start
    cdef Newton at
    control.alpha, control.dense = alpha, scratch
    control.totals = scratch + n_members
    control.kept = control.totals + control.n_strata
    control.cross = control.kept + control.n_strata
    at.beta = control.cross + control.n_numbers
    at.step, at.score, at.solution = at.beta + n, at.beta + 2 * n, at.beta + 3 * n
    at.pivots, at.matrix, at.lower = at.beta + 4 * n, at.beta + 5 * n, at.beta + 5 * n + n * n
    at.arrowhead = False
    for j in range(control.n_numbers):
        out[j * stride] = 0
    if isnan(alpha):
        return
    lay_out(&control, values, ranks, run_ptr)
    start = choose_cells(&control, levels, n_covariates, at.lower + n * n)
    if isnan(start):
        return
    memset(at.beta, 0, n * sizeof(double))
    for j in range(control.n_columns if diagonal else 1):
        at.beta[j] = start
    climb(&control, slopes_at, at, n, n, max_iterations, tolerance)
    for j in range(control.n_numbers):
        out[j * stride] = at.beta[control.n_columns + j]


cdef void lay_out(Control* control, const value_t* values, const int* ranks,
                  const int64* run_ptr) noexcept nogil:
    """Set the counts of the control's cells and of its strata."""
    cdef Py_ssize_t b, i, run, first
    for b in range(control.n_strata):
        run = b * control.n_groups
        first = control.cell_ptr[run]
        memset(control.dense + first, 0, (control.cell_ptr[run + 1] - first) * sizeof(double))
        control.totals[b] = 0
        for i in range(run_ptr[run], run_ptr[run + 1]):
            control.dense[first + ranks[i]] = values[i]
            control.totals[b] += values[i]


cdef double choose_cells(Control* control, const int64* levels, Py_ssize_t n_covariates,
                         double* with_counts) noexcept nogil:
    """Leave out cells of categories without counts; return the log mean of the others, or NaN."""
    cdef Py_ssize_t b, i, j, run
    cdef double total = 0, size = 0
    for i in range(control.n_strata * n_covariates):
        with_counts[levels[i]] = 0
    for b in range(control.n_strata):
        for j in range(n_covariates):
            with_counts[levels[b * n_covariates + j]] += control.totals[b]
    for b in range(control.n_strata):
        run = b * control.n_groups
        control.kept[b] = 1
        for j in range(n_covariates):
            if with_counts[levels[b * n_covariates + j]] == 0:
                control.kept[b] = 0
        if control.kept[b]:
            total += control.totals[b]
            for i in range(control.cell_ptr[run], control.cell_ptr[run + 1]):
                size += control.size_factors[i]
    return log(total / size) if total > 0 else NAN


cdef void slopes_at(void* problem, Py_ssize_t n, const double* beta, double* score,
                    double* matrix) noexcept nogil:
    cdef const Control* control = <const Control*> problem
    cdef Py_ssize_t b, i, j, k, c = control.n_columns, m = control.n_numbers
    cdef const double* row
    cdef const double* x
    cdef double eta, mu, q, y, r, w, slope, weight
    memset(score, 0, n * sizeof(double))
    memset(matrix, 0, n * n * sizeof(double))
    for b in range(control.n_strata):
        if control.kept[b] == 0:
            continue
        row = control.design + b * c
        eta = slope = weight = 0
        for j in range(c):
            eta += row[j] * beta[j]
        memset(control.cross, 0, m * sizeof(double))
        for i in range(control.cell_ptr[b * control.n_groups],
                       control.cell_ptr[b * control.n_groups + 1]):
            x, y, mu = control.numbers + i * m, control.dense[i], eta
            for j in range(m):
                mu += x[j] * beta[c + j]
            mu = control.size_factors[i] * exp(mu)
            q = 1 / (1 + control.alpha * mu)
            r, w = (y - mu) * q, mu * (1 + control.alpha * y) * q * q
            slope += r
            weight += w
            for j in range(m):
                score[c + j] += r * x[j]
                control.cross[j] += w * x[j]
                for k in range(j + 1):
                    matrix[(c + j) * n + c + k] += w * x[j] * x[k]
        for i in range(c):
            if row[i] == 0:
                continue
            score[i] += row[i] * slope
            for j in range(i + 1):
                matrix[i * n + j] += row[i] * row[j] * weight
            for j in range(m):
                matrix[(c + j) * n + i] += row[i] * control.cross[j]
