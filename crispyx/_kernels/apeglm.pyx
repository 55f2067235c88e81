"""Modes of fold changes under a Cauchy prior, from fits alone or from the counts of both arms.

The search is one-dimensional, as in the definition: for each fold change the intercept is fitted
first. Control and perturbed cells enter by their sums at the nodes, so that a step costs the same
for any number of cells; only a clamp looks at the non-zeros that it passes. The second search, from
the fitted value, is left out where the slope of the loss is known to stay above 0 beyond the mode
of the first.
"""

from libc.math cimport INFINITY, NAN, copysign, exp, fabs, isnan, log, log1p, sqrt
from cython.parallel cimport prange, threadid

from crispyx._kernels.node_sums cimport (
    Arm, Slopes, Table, group_of, int64, kernel_loglikelihood, move_clamp, score, score_at,
    total_size, value_t, weigh_cells, weigh_counts,
)

ctypedef unsigned char uint8

cdef enum:
    INNER_ITERATIONS = 100
    LOOKS_BEYOND = 4  # before the second search is made

cdef double LARGEST_STEP = 2
cdef double INNER_TOLERANCE = 1e-9   # where a clamp makes kinks
cdef double SMOOTH_TOLERANCE = 1e-6  # the step after one of d is below d^2
cdef double APART = 1e-3
cdef double FAR_BEYOND = 60  # natural log; no fold change of counts is larger

cdef struct Minimum:
    double place
    int64 iterations
    bint converged

cdef struct Bracket:
    double low
    double high
    double before      # length of the last step
    double tolerance   # of a step

cdef struct Comparison:
    Arm control
    Arm perturbed
    const int* ranks0
    const int* ranks1
    Py_ssize_t n0
    Py_ssize_t n1
    double alpha
    double scale
    double min_mu
    double tolerance   # of the intercept
    double weight      # of the square of the intercept in the prior
    double intercept   # the best one at the last fold change
    double score1      # of the perturbed arm there
    double j0          # information of the arms
    double j1


def shrink_statistics(
    const double[:, ::1] log_fold_change,  # IN (n_groups, n_genes)
    const double[:, ::1] standard_error,   # IN (n_groups, n_genes)
    const double[:, ::1] scale,            # IN (n_groups, n_genes), NaN is left out
    int64 max_iterations,
    double tolerance,
    double[:, :, ::1] out,                 # OUT (2, n_groups, n_genes)
    int64[:, ::1] iterations,              # OUT (n_groups, n_genes)
    uint8[:, ::1] converged,               # OUT (n_groups, n_genes)
    int n_threads,
):
    """Fill fold change and standard error under a normal likelihood."""
    cdef Py_ssize_t k, g
    cdef Minimum found
    with nogil:
        for k in prange(scale.shape[0], schedule="dynamic", num_threads=n_threads):
            for g in range(scale.shape[1]):
                found = mode_of_fit(
                    log_fold_change[k, g], standard_error[k, g], scale[k, g], max_iterations,
                    tolerance, &out[1, k, g],
                )
                out[0, k, g] = found.place
                iterations[k, g], converged[k, g] = found.iterations, found.converged


cdef Minimum mode_of_fit(double b, double error, double scale, int64 max_iterations,
                         double tolerance, double* shrunk_error) noexcept nogil:
    cdef Minimum near, far
    cdef double precision = 1 / (error * error)
    near.place, near.iterations, near.converged = NAN, 0, False
    shrunk_error[0] = NAN
    if isnan(b) or isnan(scale) or not precision < INFINITY or precision == 0:
        return near
    near = minimum_of_fit(b, precision, scale, 0, max_iterations, tolerance)
    far = minimum_of_fit(b, precision, scale, b, max_iterations, tolerance)
    if apart(near.place, far.place) and (
        loss_of_fit(b, precision, scale, near.place) <= loss_of_fit(b, precision, scale, far.place)
    ):
        far = near
    shrunk_error[0] = error_of(precision + prior_slopes(far.place, scale).second)
    return far


cdef double loss_of_fit(double b, double precision, double scale, double beta) noexcept nogil:
    return precision * (beta - b) * (beta - b) / 2 + log1p((beta / scale) * (beta / scale))


cdef Minimum minimum_of_fit(double b, double precision, double scale, double start,
                            int64 max_iterations, double tolerance) noexcept nogil:
    cdef Minimum found
    cdef Bracket bracket
    cdef Slopes slopes
    cdef double step
    cdef int64 i
    bracket = everywhere(tolerance)
    found.place, found.iterations, found.converged = start, max_iterations, False
    for i in range(1, max_iterations + 1):
        slopes = prior_slopes(found.place, scale)
        slopes.first += precision * (found.place - b)
        slopes.second += precision
        step = downhill(&bracket, found.place, slopes)
        found.place += step
        if fabs(step) <= tolerance:
            found.iterations, found.converged = i, True
            break
    return found


def shrink_counts(
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
    const double[:, ::1] alpha,       # IN (n_groups - 1, n_genes), NaN is left out
    const double[::1] scale,          # IN (n_groups - 1,)
    double weight,
    double min_mu,
    int64 max_iterations,
    double tolerance,
    bint literal,
    double[:, ::1] scratch,           # SCRATCH (n_threads, 4 * n_nodes)
    double[:, :, ::1] out,            # OUT (3, n_groups - 1, n_genes)
    int64[:, ::1] iterations,         # OUT (n_groups - 1, n_genes)
    uint8[:, ::1] converged,          # OUT (n_groups - 1, n_genes)
    int n_threads,
):
    """Fill intercept, fold change and standard error under the likelihood of the counts."""
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
            modes_of_gene(
                &table, n_groups, first_value, first_rank, &run_ptr[g, 0], &alpha[0, g], &scale[0],
                weight, min_mu, max_iterations, tolerance, literal, &scratch[t, 0], &out[0, 0, g],
                &iterations[0, g], &converged[0, g], out.shape[2], out.shape[1] * out.shape[2],
            )


cdef void modes_of_gene(
    const Table* table, Py_ssize_t n_groups, const value_t* values, const int* ranks,
    const int64* run_ptr, const double* alphas, const double* scales, double weight, double min_mu,
    int64 max_iterations, double tolerance, bint literal, double* scratch, double* out,
    int64* iterations, uint8* converged, Py_ssize_t stride, Py_ssize_t table_stride,
) noexcept nogil:
    cdef Comparison at
    cdef Minimum found
    cdef const value_t* y0 = values + run_ptr[0]
    cdef Py_ssize_t k, place, n_nodes = table.n_nodes
    cdef bint laid_out = False
    at.control.w, at.control.v = scratch, scratch + n_nodes
    at.perturbed.w, at.perturbed.v = scratch + 2 * n_nodes, scratch + 3 * n_nodes
    at.weight, at.min_mu = weight, min_mu
    at.tolerance = INNER_TOLERANCE if min_mu > 0 else SMOOTH_TOLERANCE
    at.ranks0, at.n0 = ranks + run_ptr[0], run_ptr[1] - run_ptr[0]
    for k in range(1, n_groups):
        place = (k - 1) * stride
        out[place] = out[table_stride + place] = out[2 * table_stride + place] = NAN
        iterations[place], converged[place] = 0, False
        at.n1 = run_ptr[k + 1] - run_ptr[k]
        at.alpha, at.scale = alphas[place], scales[k - 1]
        if isnan(at.alpha) or isnan(at.scale) or at.n0 + at.n1 == 0 or (
            table.cell_ptr[k + 1] == table.cell_ptr[k]
        ):
            continue
        at.ranks1 = ranks + run_ptr[k]
        if not laid_out or min_mu > 0:
            lay_out(&at.control, table, 0, min_mu, y0, at.ranks0, at.n0)
            laid_out = True
        lay_out(&at.perturbed, table, k, min_mu, values + run_ptr[k], at.ranks1, at.n1)
        found = mode_of_counts(&at, y0, values + run_ptr[k], max_iterations, tolerance, literal)
        out[place], out[table_stride + place] = at.intercept, found.place
        out[2 * table_stride + place] = error_of_counts(&at, found.place, literal)
        iterations[place], converged[place] = found.iterations, found.converged


cdef void lay_out(Arm* arm, const Table* table, Py_ssize_t k, double min_mu, const value_t* y,
                  const int* ranks, Py_ssize_t n) noexcept nogil:
    arm.group, arm.min_mu = group_of(table, k), min_mu
    weigh_cells(arm, 0)
    weigh_counts(arm, y, ranks, n)


cdef Minimum mode_of_counts(Comparison* at, const value_t* y0, const value_t* y1,
                            int64 max_iterations, double tolerance, bint nearest) noexcept nogil:
    """Return the lower mode of two searches and leave the intercept and both sums there."""
    cdef Minimum near, far
    cdef double eta0 = log(max(at.control.y_above, 0.5) / total_size(&at.control))
    cdef double eta1 = log(max(at.perturbed.y_above, 0.5) / total_size(&at.perturbed))
    at.intercept = eta0
    near = minimum_of_counts(at, y0, y1, 0, max_iterations, tolerance)
    far = near
    if not nearest and not (near.converged and no_mode_beyond(at, y0, y1, near.place)):
        far = minimum_of_counts(at, y0, y1, eta1 - eta0, max_iterations, tolerance)
        if apart(near.place, far.place) and (
            loss_of_counts(at, y0, y1, near.place) <= loss_of_counts(at, y0, y1, far.place)
        ):
            far = near
    place_intercept(at, y0, y1, far.place)
    take_sums(at, y0, y1, far.place)
    return far


cdef bint no_mode_beyond(Comparison* at, const value_t* y0, const value_t* y1,
                         double mode) noexcept nogil:
    """Return whether the slope of the loss is known to stay above 0 from a mode on, away from 0.

    Let u be the slope of the profile log-likelihood and h its curvature, both at a fold change x
    of either sign taken as positive. h is a sum of terms whose logs change no faster than x, so
    that h(x + d) >= h(x) exp(-d), and u(x + d) <= u(x) - h(x) (1 - exp(-d)). The slope of the
    prior, q(x) = 2 x / (scale^2 + x^2), falls from x = scale on. See ``docs/methods/apeglm.md``.
    """
    cdef double x = fabs(mode), sign = copysign(1, mode), u, h, square = at.scale * at.scale
    cdef double falling, there, peak
    cdef int look
    if at.min_mu > 0:
        return False
    place_intercept(at, y0, y1, mode)
    for look in range(LOOKS_BEYOND + 1):
        u, h = sign * at.score1, left_information(at)
        if not u > 0:
            return True
        if look == 0 and x * x >= 3 * square:
            # Here the slope of the prior falls ever slower, while h is above that fall.
            falling = -prior_slopes(x, at.scale).second
            return h - falling >= u
        if u * at.scale > 1:
            return False
        # Up to the next place, where q has come down to u(x), the slope of the prior is larger.
        there = (1 + sqrt(1 - u * u * square)) / u
        if not there > x + APART * x:
            return False
        if there > FAR_BEYOND:
            return True
        if u < h:
            # The likelihood is highest before the peak, and until then q is at least q(peak).
            peak = x - log1p(-u / h)
            if peak <= there or (
                prior_slopes(peak, at.scale).first > u - h * (1 - exp(x - there))
            ):
                return True
        if look < LOOKS_BEYOND:
            x = there
            place_intercept(at, y0, y1, sign * x)
    return False


cdef Minimum minimum_of_counts(Comparison* at, const value_t* y0, const value_t* y1, double start,
                               int64 max_iterations, double tolerance) noexcept nogil:
    cdef Minimum found
    cdef Bracket bracket
    cdef Slopes slopes
    cdef double step
    cdef int64 i
    bracket = everywhere(tolerance)
    found.place, found.iterations, found.converged = start, max_iterations, False
    for i in range(1, max_iterations + 1):
        place_intercept(at, y0, y1, found.place)
        slopes = prior_slopes(found.place, at.scale)
        slopes.first -= at.score1
        slopes.second += left_information(at)
        step = downhill(&bracket, found.place, slopes)
        found.place += step
        at.intercept -= at.j1 / (at.j0 + at.j1 + at.weight) * step  # it follows about so
        if fabs(step) <= tolerance:
            found.iterations, found.converged = i, True
            break
    return found


cdef void place_intercept(Comparison* at, const value_t* y0, const value_t* y1,
                          double beta) noexcept nogil:
    """Fit the intercept at a fold change, and set the slopes there."""
    cdef Slopes slopes, control, perturbed
    cdef Bracket bracket
    cdef double step, scale, change = exp(beta)
    cdef int _i
    bracket = everywhere(at.tolerance)
    for _i in range(INNER_ITERATIONS):
        if at.min_mu > 0:
            move_clamp(&at.control, y0, at.ranks0, at.n0, at.intercept)
            move_clamp(&at.perturbed, y1, at.ranks1, at.n1, at.intercept + beta)
        scale = exp(at.intercept)
        control = score_at(&at.control, scale, at.alpha)
        perturbed = score_at(&at.perturbed, scale * change, at.alpha)
        slopes.first = at.weight * at.intercept - control.first - perturbed.first
        slopes.second = control.second + perturbed.second + at.weight
        step = downhill(&bracket, at.intercept, slopes)
        at.intercept += step
        if fabs(step) <= at.tolerance:
            break
    if at.min_mu > 0:
        take_sums(at, y0, y1, beta)
        return
    # After so short a step the sums are known without another look.
    at.j0, at.j1 = control.second, perturbed.second
    at.score1 = perturbed.first - perturbed.second * step


cdef void take_sums(Comparison* at, const value_t* y0, const value_t* y1,
                    double beta) noexcept nogil:
    cdef Slopes perturbed
    at.j0 = arm_slopes(&at.control, y0, at.ranks0, at.n0, at.intercept, at.alpha).second
    perturbed = arm_slopes(&at.perturbed, y1, at.ranks1, at.n1, at.intercept + beta, at.alpha)
    at.score1, at.j1 = perturbed.first, perturbed.second


cdef Slopes arm_slopes(Arm* arm, const value_t* y, const int* ranks, Py_ssize_t n, double eta,
                       double alpha) noexcept nogil:
    if arm.min_mu > 0:
        move_clamp(arm, y, ranks, n, eta)
    return score(arm, eta, alpha)


cdef double loss_of_counts(Comparison* at, const value_t* y0, const value_t* y1,
                           double beta) noexcept nogil:
    """Return the loss without the terms of the counts alone."""
    cdef double total
    place_intercept(at, y0, y1, beta)
    total = at.intercept * at.intercept * at.weight / 2
    total += log1p((beta / at.scale) * (beta / at.scale))
    total -= kernel_loglikelihood(&at.control, at.intercept, at.alpha)
    return total - kernel_loglikelihood(&at.perturbed, at.intercept + beta, at.alpha)


cdef double left_information(const Comparison* at) noexcept nogil:
    """Return the information on the fold change when the intercept follows it."""
    return at.j1 * (at.j0 + at.weight) / (at.j0 + at.j1 + at.weight)


cdef double error_of_counts(const Comparison* at, double beta, bint literal) noexcept nogil:
    cdef double curvature = prior_slopes(beta, at.scale).second
    cdef double j = at.j0 + at.j1 + at.weight, det
    if not literal:
        return error_of(left_information(at) + curvature)
    det = j * (at.j1 + curvature) - (at.j1 + curvature) * (at.j1 + at.weight)
    return sqrt(fabs(j / det)) if det != 0 else NAN


cdef double error_of(double curvature) noexcept nogil:
    return 1 / sqrt(curvature) if curvature > 0 else NAN


cdef bint apart(double near, double far) noexcept nogil:
    return fabs(near - far) > APART * max(fabs(near), fabs(far))


cdef Slopes prior_slopes(double beta, double scale) noexcept nogil:
    """Return both derivatives of log(1 + (beta / scale)^2)."""
    cdef Slopes out
    cdef double square = scale * scale + beta * beta
    out.first = 2 * beta / square
    out.second = 2 * (scale * scale - beta * beta) / (square * square)
    return out


cdef Bracket everywhere(double tolerance) noexcept nogil:
    cdef Bracket bracket
    bracket.low, bracket.high, bracket.before = -INFINITY, INFINITY, INFINITY
    bracket.tolerance = tolerance
    return bracket


cdef double downhill(Bracket* bracket, double x, Slopes slopes) noexcept nogil:
    """Return Newton's step, or half of the bracket, which it narrows, where that does not help."""
    cdef double step
    cdef bint slow
    if slopes.first > 0:
        bracket.high = x
    else:
        bracket.low = x
    if slopes.second > 0:
        step = -slopes.first / slopes.second
    else:
        step = -copysign(LARGEST_STEP, slopes.first)
    step = min(max(step, -LARGEST_STEP), LARGEST_STEP)
    if fabs(step) > bracket.tolerance:
        slow = bracket.high - bracket.low < INFINITY and fabs(step) > bracket.before / 2
        if slow or not bracket.low < x + step < bracket.high:
            step = (bracket.low + bracket.high) / 2 - x
    bracket.before = fabs(step)
    return step
