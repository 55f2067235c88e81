"""Log fold changes beside categories, jointly in the control and one perturbation.

A stratum holds the cells that agree in every category. The cells of one arm in one stratum differ
in their size factors only, so that their sums are taken at nodes as without covariates; a step of
Newton's method costs as much as there are strata, whatever the number of cells.

Numbers beside the categories have slopes that are known by now. They make size factors of every
gene's own, for which no nodes are laid out: every cell is then its own node.
"""

from libc.math cimport NAN, copysign, exp, fabs, isnan, log, sqrt
from libc.string cimport memset
from cython.parallel cimport prange, threadid

from crispyx._kernels.log_means cimport empirical_fill
from crispyx._kernels.newton cimport LARGEST_STEP, Fit, Newton, climb
from crispyx._kernels.node_sums cimport (
    Arm, Slopes, Table, information, int64, kernel_loglikelihood, score, total_size, value_t,
)
from crispyx._kernels.pivoting cimport solve
from crispyx._kernels.strata cimport (
    Problem, arm_at, arm_number, carve, lay_out_cells, n_cells, predictor, weigh_arm,
)

ctypedef unsigned char uint8

cdef enum:
    N_OUT = 5  # intercept, log fold change, standard error, silent z, z of the likelihood ratio
    CONTROL = 1
    PERTURBED = 2


def n_scratch(Py_ssize_t n_strata, Py_ssize_t n_columns, Py_ssize_t n_nodes, Py_ssize_t n_levels):
    """Return the doubles a thread works on."""
    return (
        2 * n_strata * (n_nodes + 2) + 5 * (n_columns + 1) + 2 * (n_columns + 1) ** 2 + n_levels
    )


def adjusted_coefficients(
    const value_t[::1] values,        # IN (nnz,)
    const int[::1] ranks,             # IN (nnz,), of each cell in its group, by size factor
    const int64[:, ::1] run_ptr,      # IN (n_genes, n_groups * n_strata + 1)
    const int64[::1] cell_ptr,        # IN (n_groups * n_strata + 1,), groups of a stratum in a row
    const int64[::1] suffix_ptr,      # IN (n_groups * n_strata + 1,)
    const double[::1] size_factors,   # IN (n_members,), rising in each group
    const double[:, ::1] rows,        # IN (n_members, n_nodes)
    const double[:, ::1] suffix,      # IN (n_suffixes, n_nodes)
    const double[:, ::1] node_s,      # IN (n_groups * n_strata, n_nodes)
    const double[:, ::1] node_log,    # IN (n_groups * n_strata, n_nodes)
    const double[::1] prefix_log,     # IN (n_members + n_groups * n_strata,)
    const double[:, ::1] alpha,       # IN (n_groups - 1, n_genes), NaN is not fitted
    const double[:, ::1] design,      # IN (n_strata, n_columns)
    const int64[:, ::1] levels,       # IN (n_strata, n_covariates), numbered through
    bint diagonal,                    # the design is the identity
    bint robust,
    bint with_ratio,                  # also fit without the effect
    int64 max_iterations,
    double tolerance,
    const double[:, ::1] numbers,     # IN (n_members, n_numbers), by rank; n_numbers may be 0
    const double[:, ::1] slopes,      # IN (n_numbers, n_genes)
    double[:, ::1] cells,             # SCRATCH (n_threads, 4 * n_members), or (1, 1) without numbers
    double[:, ::1] scratch,           # SCRATCH (n_threads, n_scratch)
    double[:, :, ::1] out,            # OUT (5, n_groups - 1, n_genes)
    int64[:, ::1] iterations,         # OUT (n_groups - 1, n_genes)
    uint8[:, ::1] converged,          # OUT (n_groups - 1, n_genes)
    int n_threads,
):
    """Fill the fits of every (perturbation, gene); as ``reference.fit_beside_covariates``."""
    cdef Py_ssize_t g, n_groups = alpha.shape[0] + 1, n_numbers = slopes.shape[0]
    cdef int t
    cdef Table table
    cdef Problem problem
    cdef const double* first_number = &numbers[0, 0] if n_numbers > 0 else NULL
    cdef const double* first_slope = &slopes[0, 0] if n_numbers > 0 else NULL
    table.cell_ptr, table.suffix_ptr = &cell_ptr[0], &suffix_ptr[0]
    table.size_factors, table.rows = &size_factors[0], &rows[0, 0]
    table.suffix, table.prefix_log = &suffix[0, 0], &prefix_log[0]
    table.node_s, table.node_log = &node_s[0, 0], &node_log[0, 0]
    table.n_nodes = rows.shape[1]
    problem.table, problem.design, problem.diagonal = &table, &design[0, 0], diagonal
    problem.n_groups = n_groups
    problem.n_strata, problem.n_columns = design.shape[0], design.shape[1]
    cdef const value_t* first_value = &values[0] if values.shape[0] > 0 else NULL
    cdef const int* first_rank = &ranks[0] if ranks.shape[0] > 0 else NULL
    with nogil:
        for g in prange(run_ptr.shape[0], schedule="dynamic", num_threads=n_threads):
            t = threadid()
            adjust_gene(
                problem, n_groups, first_value, first_rank, &run_ptr[g, 0], &alpha[0, g],
                first_number, n_numbers, first_slope + g, &cells[t if n_numbers > 0 else 0, 0],
                &levels[0, 0], levels.shape[1], robust, with_ratio, max_iterations, tolerance,
                &scratch[t, 0], &out[0, 0, g], &iterations[0, g], &converged[0, g], out.shape[2],
                out.shape[1] * out.shape[2],
            )


cdef void adjust_gene(
    Problem problem, Py_ssize_t n_groups, const value_t* values, const int* ranks,
    const int64* run_ptr, const double* alphas, const double* numbers, Py_ssize_t n_numbers,
    const double* slopes, double* cells, const int64* levels, Py_ssize_t n_covariates,
    bint robust, bint with_ratio, int64 max_iterations, double tolerance, double* scratch,
    double* out, int64* iterations, uint8* converged, Py_ssize_t stride, Py_ssize_t table_stride,
) noexcept nogil:
    cdef Py_ssize_t k, i, at, q = problem.n_columns + 1
    cdef double* with_counts = carve(&problem, scratch)
    cdef double* found
    cdef Fit fit
    problem.ones = NULL
    if n_numbers > 0:
        lay_out_cells(&problem, values, ranks, run_ptr, numbers, n_numbers, slopes,
                      stride, cells)
    weigh_arm(&problem, 0, 0, values, ranks, run_ptr)
    for k in range(1, n_groups):
        at = (k - 1) * stride
        found = out + at
        for i in range(N_OUT):
            found[i * table_stride] = NAN
        iterations[at], converged[at] = 0, False
        problem.alpha, problem.perturbed = alphas[at], k
        if isnan(problem.alpha):
            continue
        weigh_arm(&problem, 1, k, values, ranks, run_ptr)
        choose_cells(&problem, levels, n_covariates, with_counts)
        if not two_arms(&problem):
            continue
        fit = fit_pair(&problem, with_ratio, max_iterations, tolerance, found, table_stride)
        found[2 * table_stride] = standard_error(&problem, robust, values, ranks, run_ptr)
        if isnan(found[2 * table_stride]):
            for i in range(N_OUT):
                found[i * table_stride] = NAN
            continue
        found[0] = mean_predictor(&problem)
        found[table_stride] = problem.beta[q - 1]
        if problem.shifted == CONTROL:
            found[table_stride] = -problem.beta[q - 1]
        iterations[at], converged[at] = fit.iterations, fit.converged


cdef void choose_cells(Problem* problem, const int64* levels, Py_ssize_t n_covariates,
                       double* with_counts) noexcept nogil:
    """Leave out the cells of categories without counts; beside a silent arm, foreign strata."""
    cdef Py_ssize_t b, i, j, n = problem.n_strata
    cdef double total = 0, total0 = 0, total1 = 0
    cdef bint kept
    for i in range(n * n_covariates):
        with_counts[levels[i]] = 0
    for b in range(n):
        total = problem.totals[b] + problem.totals[n + b]
        total0 += problem.totals[b]
        total1 += problem.totals[n + b]
        for j in range(n_covariates):
            with_counts[levels[b * n_covariates + j]] += total
    problem.shifted = CONTROL if total0 == 0 else PERTURBED
    for b in range(n):
        kept = True
        for j in range(n_covariates):
            kept = kept and with_counts[levels[b * n_covariates + j]] > 0
        if total0 == 0:
            kept = kept and n_cells(problem, 1, b) > 0
        if total1 == 0:
            kept = kept and n_cells(problem, 0, b) > 0
        problem.kept[b] = kept and n_cells(problem, 0, b) > 0
        problem.kept[n + b] = kept and n_cells(problem, 1, b) > 0


cdef double kept_total(const Problem* problem, int side) noexcept nogil:
    """Return the counts of the cells of an arm that take part, -1 when there are none."""
    cdef Py_ssize_t b, i
    cdef double total = 0
    cdef bint some = False
    for b in range(problem.n_strata):
        i = side * problem.n_strata + b
        if problem.kept[i]:
            some = True
            total += problem.totals[i]
    return total if some else -1


cdef bint two_arms(const Problem* problem) noexcept nogil:
    cdef double total0 = kept_total(problem, 0), total1 = kept_total(problem, 1)
    return total0 >= 0 and total1 >= 0 and total0 + total1 > 0


cdef Fit fit_pair(Problem* problem, bint with_ratio, int64 max_iterations, double tolerance,
                  double* out, Py_ssize_t table_stride) noexcept nogil:
    """Fit both arms; a silent one beside the covariates of the other; the ratio where asked for."""
    cdef Py_ssize_t q = problem.n_columns + 1
    cdef int loud = 0, silent
    cdef Fit fit, null
    cdef double ratio = 0
    if kept_total(problem, 0) == 0:
        loud = PERTURBED
    elif kept_total(problem, 1) == 0:
        loud = CONTROL
    begin(problem)
    null.converged = True
    if loud or with_ratio:
        null = maximize(problem, CONTROL | PERTURBED, q - 1, max_iterations, tolerance)
        ratio = -log_likelihood(problem, CONTROL | PERTURBED)
        begin(problem)
    # The terms of the counts alone are the same in both likelihoods.
    if loud == 0:
        fit = maximize(problem, CONTROL | PERTURBED, q, max_iterations, tolerance)
        if with_ratio:
            ratio += log_likelihood(problem, CONTROL | PERTURBED)
            out[4 * table_stride] = copysign(sqrt(max(2 * ratio, 0)), problem.beta[q - 1])
            fit.converged = fit.converged and null.converged
        return fit
    fit = maximize(problem, loud, q - 1, max_iterations, tolerance)
    ratio += log_likelihood(problem, loud)
    out[3 * table_stride] = copysign(sqrt(max(2 * ratio, 0)), -1 if loud == CONTROL else 1)
    if with_ratio:
        out[4 * table_stride] = out[3 * table_stride]
    silent = 1 if loud == CONTROL else 0
    fit.converged = penalized_effect(problem, silent, max_iterations, tolerance) and fit.converged
    return fit


cdef void begin(Problem* problem) noexcept nogil:
    """Start at the common mean of all cells that take part."""
    cdef Py_ssize_t b, j, q = problem.n_columns + 1
    cdef double total = 0, size = 0
    cdef Arm arm
    cdef int side
    for side in range(2):
        for b in range(problem.n_strata):
            if problem.kept[side * problem.n_strata + b]:
                arm = arm_at(problem, side, b)
                total += arm.y_above
                size += total_size(&arm)
    memset(problem.beta, 0, q * sizeof(double))
    for j in range(problem.n_columns if problem.diagonal else 1):
        problem.beta[j] = log(total / size)


cdef void slopes_at(void* given, Py_ssize_t n, const double* beta, double* first,
                    double* matrix) noexcept nogil:
    """Set score and observed information of the arms that take part, for n columns."""
    cdef const Problem* problem = <const Problem*> given
    cdef Py_ssize_t b
    cdef int side
    cdef Arm arm
    cdef Slopes slopes
    memset(first, 0, n * sizeof(double))
    memset(matrix, 0, n * n * sizeof(double))
    for side in range(2):
        if not problem.arms & (side + 1):
            continue
        for b in range(problem.n_strata):
            if problem.kept[side * problem.n_strata + b]:
                arm = arm_at(problem, side, b)
                slopes = score(&arm, predictor(problem, side, b, beta), problem.alpha)
                add_stratum(problem, side, b, n, slopes.first, slopes.second, first)


cdef void add_stratum(const Problem* problem, int side, Py_ssize_t b, Py_ssize_t n, double slope,
                      double weight, double* first) noexcept nogil:
    """Add a stratum's row to the score and to the lower triangle of the information."""
    cdef Py_ssize_t i, j, c = problem.n_columns
    cdef const double* row = problem.design + b * c
    cdef bint shifted = side + 1 == problem.shifted and n > c
    if problem.diagonal:
        first[b] += slope
        problem.matrix[b * n + b] += weight
        if shifted:
            problem.matrix[c * n + b] += weight
    else:
        for i in range(c):
            if row[i] != 0:
                first[i] += row[i] * slope
                for j in range(i + 1):
                    problem.matrix[i * n + j] += row[i] * row[j] * weight
                if shifted:
                    problem.matrix[c * n + i] += row[i] * weight
    if shifted:
        first[c] += slope
        problem.matrix[c * n + c] += weight


cdef Fit maximize(Problem* problem, int arms, Py_ssize_t n, int64 max_iterations,
                  double tolerance) noexcept nogil:
    """Move the first n coefficients to the highest likelihood of some arms."""
    cdef Newton at
    at.beta, at.step, at.score = problem.beta, problem.step, problem.score
    at.solution, at.pivots = problem.solution, problem.pivots
    at.matrix, at.lower, at.arrowhead = problem.matrix, problem.lower, problem.diagonal
    problem.arms = arms
    return climb(problem, slopes_at, at, n, problem.n_columns + 1, max_iterations, tolerance)


cdef double log_likelihood(const Problem* problem, int arms) noexcept nogil:
    """Return the log-likelihood of some arms, but for the terms of the counts alone."""
    cdef Py_ssize_t b
    cdef int side
    cdef Arm arm
    cdef double total = 0
    for side in range(2):
        for b in range(problem.n_strata):
            if arms & (side + 1) and problem.kept[side * problem.n_strata + b]:
                arm = arm_at(problem, side, b)
                total += kernel_loglikelihood(
                    &arm, predictor(problem, side, b, problem.beta), problem.alpha
                )
    return total


cdef bint penalized_effect(Problem* problem, int side, int64 max_iterations,
                           double tolerance) noexcept nogil:
    """Set the effect of a silent arm, with Firth's penalty; as ``penalized_log_mean``."""
    cdef Py_ssize_t b, c = problem.n_columns
    cdef double low = -1e300, high = 1e300, size = 0, step, first, second, w, w1, w2, a, a1, a2
    cdef Arm arm
    cdef Slopes slopes
    cdef int64 _i
    problem.beta[c] = 0
    for b in range(problem.n_strata):
        if problem.kept[side * problem.n_strata + b]:
            arm = arm_at(problem, side, b)
            size += total_size(&arm) * exp(predictor(problem, side, b, problem.beta))
    problem.beta[c] = log(0.5 / size)
    for _i in range(max_iterations):
        first = second = w = w1 = w2 = 0
        for b in range(problem.n_strata):
            if problem.kept[side * problem.n_strata + b]:
                arm = arm_at(problem, side, b)
                slopes = score(&arm, predictor(problem, side, b, problem.beta), problem.alpha)
                information(&arm, predictor(problem, side, b, problem.beta), problem.alpha, &a,
                            &a1, &a2)
                first += slopes.first
                second += slopes.second
                w, w1, w2 = w + a, w1 + a1, w2 + a2
        first += w1 / w / 2
        second -= (w2 / w - (w1 / w) * (w1 / w)) / 2
        if first > 0:
            low = problem.beta[c]
        else:
            high = problem.beta[c]
        step = first / second if second > 0 else copysign(LARGEST_STEP, first)
        step = min(max(step, -LARGEST_STEP), LARGEST_STEP)
        if not low <= problem.beta[c] + step <= high:
            step = (low + high) / 2 - problem.beta[c]
        problem.beta[c] += step
        if fabs(step) <= tolerance:
            return True
    return False


cdef double standard_error(Problem* problem, bint robust, const value_t* values, const int* ranks,
                           const int64* run_ptr) noexcept nogil:
    """Return the standard error of the effect, NaN where the data do not tell it."""
    cdef Py_ssize_t b, run, n = problem.n_columns + 1
    cdef int side
    cdef Arm arm
    cdef double w, ignored, ignored2, eta, along, total = 0
    memset(problem.matrix, 0, n * n * sizeof(double))
    for side in range(2):
        for b in range(problem.n_strata):
            if problem.kept[side * problem.n_strata + b]:
                arm = arm_at(problem, side, b)
                eta = predictor(problem, side, b, problem.beta)
                information(&arm, eta, problem.alpha, &w, &ignored, &ignored2)
                add_stratum(problem, side, b, n, 0, w, problem.score)
    memset(problem.step, 0, n * sizeof(double))
    problem.step[n - 1] = 1
    solve(problem.matrix, n, problem.diagonal, problem.step, problem.lower, problem.pivots,
          problem.solution)
    if problem.solution[n - 1] == 0:
        return NAN
    if not robust:
        return sqrt(problem.solution[n - 1])
    for side in range(2):
        for b in range(problem.n_strata):
            if problem.kept[side * problem.n_strata + b]:
                arm = arm_at(problem, side, b)
                along = predictor(problem, side, b, problem.solution)
                run = arm_number(problem, side, b)
                total += along * along * empirical_fill(
                    &arm, values + run_ptr[run], ranks + run_ptr[run],
                    run_ptr[run + 1] - run_ptr[run],
                    predictor(problem, side, b, problem.beta), problem.alpha,
                )
    return sqrt(total)


cdef double mean_predictor(const Problem* problem) noexcept nogil:
    """Return the mean linear predictor of the control cells that take part."""
    cdef Py_ssize_t b
    cdef double total = 0, n = 0
    for b in range(problem.n_strata):
        if problem.kept[b]:
            total += n_cells(problem, 0, b) * predictor(problem, 0, b, problem.beta)
            n += n_cells(problem, 0, b)
    return total / n
