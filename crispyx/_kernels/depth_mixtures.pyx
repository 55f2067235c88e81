"""Two-component fits of guides whose counts scale with the guide depth of the cell.

The cells without a guide enter through their distinct depths alone, in closed form, so an iteration
costs O(distinct (count, depth) pairs + distinct depths). Parameters run through :mod:`fixed_point` as
log-odds of the signal share, log rates (log-odds of the proportions for the binomial) of background
and signal, and log theta.

The negative binomial has no closed M-step: its image is one scoring step in each rate and one Newton
step in log theta (EM gradient algorithm, Lange, J R Stat Soc B 57, 1995), whose fixed points are
those of EM; :mod:`fixed_point` halves a step that lowers the objective.
"""

from libc.math cimport NAN, exp, log
from cython.parallel cimport prange, threadid

from crispyx._kernels.fixed_point cimport Ascent, ascend, em_map
from crispyx._kernels.special cimport between, digamma, log_gamma, log_odds, mix, trigamma

ctypedef long long int64
ctypedef unsigned char uint8

cdef enum:
    MAX_STARTS = 32
    N_PARAMETERS = 4
    OK = 0
    NOT_CONVERGED = 1
    NO_SEPARATION = 2
    POISSON = 0
    NEG_BINOMIAL = 1
    BINOMIAL = 2

cdef double COARSE = 1e-2
cdef double SMALLEST_SHARE = 1e-9
cdef double SMALLEST_RATE = 1e-12
cdef double THETA_LOW = 0.01
cdef double THETA_HIGH = 1e4
cdef double THETA_START = 5

ctypedef struct Guide:
    const double* y         # distinct (y, d), rising in y
    const double* d
    const double* n
    Py_ssize_t n_bins
    double* zero_d          # distinct depths of the cells without the guide
    double* zero_n
    Py_ssize_t n_zero
    double n_cells
    double depth            # sum of d over all cells
    bint one_component


def fit_depth(
    int model,                       # 0 poisson, 1 neg_binomial, 2 binomial
    const int64[::1] ptr,            # IN (n_guides + 1,)
    const double[::1] y,             # IN (n_bins,), counts, rising by guide
    const int64[::1] depth_of,       # IN (n_bins,), position in depths
    const double[::1] n,             # IN (n_bins,), cells
    const double[::1] depths,        # IN (n_depths,), exposure or number of trials
    const double[::1] cells_at,      # IN (n_depths,), all cells of that depth
    int n_starts,                    # at most 32
    double tolerance,
    int max_iterations,
    double[::1] bin_scratch,         # SCRATCH (n_bins,)
    double[:, ::1] zero_scratch,     # SCRATCH (n_threads, 3 * n_depths)
    double[:, ::1] parameters,       # OUT (n_guides, 4), share, log rates, theta
    double[:, ::1] scores,           # OUT (n_guides, 3), objective, log-likelihood, one component
    int64[::1] n_iterations,         # OUT (n_guides,)
    uint8[::1] status,               # OUT (n_guides,), 0 ok, 1 not converged, 2 no separation
    int n_threads,
):
    """Fit every guide by maximum likelihood."""
    cdef Py_ssize_t g
    cdef int t
    with nogil:
        for g in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            t = threadid()
            fit_guide(
                model, &y[ptr[g]], &depth_of[ptr[g]], &n[ptr[g]], ptr[g + 1] - ptr[g], &depths[0],
                &cells_at[0], depths.shape[0], n_starts, tolerance, max_iterations,
                &bin_scratch[ptr[g]], &zero_scratch[t, 0], &parameters[g, 0], &scores[g, 0],
                &n_iterations[g], &status[g],
            )


cdef void fit_guide(
    int model, const double* y, const int64* depth_of, const double* n, Py_ssize_t n_bins,
    const double* depths, const double* cells_at, Py_ssize_t n_depths, int n_most,
    double tolerance, int max_iterations, double* d, double* scratch, double* parameters, double* scores,
    int64* n_iterations, uint8* status,
) noexcept nogil:
    cdef double thetas[MAX_STARTS * N_PARAMETERS]
    cdef double objectives[MAX_STARTS]
    cdef double low[N_PARAMETERS]
    cdef double high[N_PARAMETERS]
    cdef double last_above = -1, above, constant
    cdef Guide data
    cdef Ascent ascent
    cdef em_map step = poisson_step
    cdef int i, n_starts = 0, best = 0
    if model == NEG_BINOMIAL:
        step = neg_binomial_step
    elif model == BINOMIAL:
        step = binomial_step
    data.y, data.d, data.n, data.n_bins = y, d, n, n_bins
    data.one_component = False
    prepare(&data, depth_of, depths, cells_at, n_depths, d, scratch)
    bounds(low, high)
    n_iterations[0] = 0
    for i in range(n_most):
        above = start(model, &data, split_of(i, n_most, y[n_bins - 1]), &thetas[4 * n_starts])
        if above == 0 or above == last_above:
            continue
        last_above = above
        ascent = ascend(step, &data, N_PARAMETERS, &thetas[4 * n_starts], low, high, COARSE,
                        min(40, max_iterations))
        objectives[n_starts] = ascent.objective
        n_iterations[0] += ascent.n_iterations
        if objectives[n_starts] > objectives[best]:
            best = n_starts
        n_starts += 1
    constant = log_constant(model, &data)
    scores[2] = constant + one_component(model, step, &data, tolerance, max_iterations)
    if n_starts == 0:
        give_up(parameters, scores, status)
        return
    ascent = ascend(step, &data, N_PARAMETERS, &thetas[4 * best], low, high, tolerance,
                    max_iterations)
    n_iterations[0] += ascent.n_iterations
    write_parameters(model, &thetas[4 * best], parameters)
    if not is_admissible(parameters):
        give_up(parameters, scores, status)
        return
    status[0] = OK if ascent.converged else NOT_CONVERGED
    scores[0] = scores[1] = ascent.objective + constant


cdef void bounds(double* low, double* high) noexcept nogil:
    """Of log-odds of the share, log rates (log-odds for the binomial) and log theta."""
    low[0], high[0] = logit_share(0), logit_share(1)
    low[1] = low[2] = log(SMALLEST_RATE)
    high[1] = high[2] = -log(SMALLEST_RATE)
    low[3], high[3] = log(THETA_LOW), log(THETA_HIGH)


cdef void give_up(double* parameters, double* scores, uint8* status) noexcept nogil:
    cdef int i
    for i in range(N_PARAMETERS):
        parameters[i] = NAN
    scores[0] = scores[1] = NAN
    status[0] = NO_SEPARATION


cdef void prepare(Guide* data, const int64* depth_of, const double* depths, const double* cells_at,
                  Py_ssize_t n_depths, double* d, double* scratch) noexcept nogil:
    """Depth of every bin; depths and numbers of the cells without the guide."""
    cdef double* left = scratch + 2 * n_depths
    cdef Py_ssize_t k
    data.zero_d = scratch
    data.zero_n = scratch + n_depths
    data.n_zero = 0
    data.n_cells = data.depth = 0
    for k in range(n_depths):
        left[k] = cells_at[k]
        data.n_cells += cells_at[k]
        data.depth += cells_at[k] * depths[k]
    for k in range(data.n_bins):
        d[k] = depths[depth_of[k]]
        left[depth_of[k]] -= data.n[k]
    for k in range(n_depths):
        if left[k] > 0:
            data.zero_d[data.n_zero] = depths[k]
            data.zero_n[data.n_zero] = left[k]
            data.n_zero += 1


cdef double split_of(int i, int n_starts, double largest) noexcept nogil:
    """Where ambient counts end in most screens, then relative to the largest count."""
    if i < 3:
        return 3 if i == 0 else 6 if i == 1 else 15
    return 0.25 * largest if i == 3 else exp(log(largest) * (i - 3) / (n_starts - 3))


cdef double start(int model, const Guide* data, double split, double* theta) noexcept nogil:
    """Parameters when counts of at least ``split`` are signal; returns the number of those cells."""
    cdef double cells = 0, signal = 0, signal_d = 0, background = 0, low, high
    cdef Py_ssize_t k
    for k in range(data.n_bins):
        if data.y[k] >= split:
            cells += data.n[k]
            signal += data.n[k] * data.y[k]
            signal_d += data.n[k] * data.d[k]
        else:
            background += data.n[k] * data.y[k]
    if cells == 0:
        return 0
    low = between((background + 0.01) / max(data.depth - signal_d, 1), SMALLEST_RATE, 0.5)
    high = signal / signal_d
    theta[0] = logit_share(cells / data.n_cells)
    theta[1] = log_odds(low) if model == BINOMIAL else log(low)
    theta[2] = log_odds(min(high, 0.999)) if model == BINOMIAL else log(high)
    theta[3] = log(THETA_START) if model == NEG_BINOMIAL else 0
    return cells


cdef void write_parameters(int model, const double* theta, double* parameters) noexcept nogil:
    """Component of the smaller rate first; rates stay on their log or log-odds scale."""
    cdef bint swapped = theta[1] > theta[2]
    parameters[0] = 1 / (1 + exp(theta[0] if swapped else -theta[0]))
    parameters[1] = min(theta[1], theta[2])
    parameters[2] = max(theta[1], theta[2])
    parameters[3] = exp(theta[3]) if model == NEG_BINOMIAL else NAN


cdef bint is_admissible(const double* parameters) noexcept nogil:
    """Two rates, and a share off its bounds."""
    return (parameters[2] > parameters[1] + 1e-6
            and 2 * SMALLEST_SHARE < parameters[0] < 1 - 2 * SMALLEST_SHARE)


cdef double logit_share(double share) noexcept nogil:
    return log_odds(between(share, SMALLEST_SHARE, 1 - SMALLEST_SHARE))


cdef double log_constant(int model, const Guide* data) noexcept nogil:
    """The part of the log-likelihood without parameters."""
    cdef double total = 0
    cdef Py_ssize_t k
    for k in range(data.n_bins):
        total -= data.n[k] * log_gamma(data.y[k] + 1)
        if model == BINOMIAL:
            total += data.n[k] * (
                log_gamma(data.d[k] + 1) - log_gamma(data.d[k] - data.y[k] + 1)
            )
        else:
            total += data.n[k] * data.y[k] * log(data.d[k])
    return total


cdef double one_component(int model, em_map step, Guide* data, double tolerance,
                          int max_iterations) noexcept nogil:
    """Log-likelihood, without its constant, of background alone."""
    cdef double theta[N_PARAMETERS]
    cdef double low[N_PARAMETERS]
    cdef double high[N_PARAMETERS]
    cdef double total = 0, rate
    cdef Py_ssize_t k
    for k in range(data.n_bins):
        total += data.n[k] * data.y[k]
    rate = total / data.depth
    if model == POISSON:
        return total * log(rate) - total
    if model == BINOMIAL:
        if total >= data.depth:
            return 0
        return total * log(rate) + (data.depth - total) * log(1 - rate)
    theta[0], theta[1], theta[2], theta[3] = 0, log(rate), 0, -1
    data.one_component = True
    bounds(low, high)
    total = ascend(
        step, data, N_PARAMETERS, theta, low, high, tolerance, max_iterations
    ).objective
    data.one_component = False
    return total


# ------------------------------------------------------------------------------------ poisson

cdef double poisson_step(const void* problem, const double* theta, double* image) noexcept nogil:
    cdef const Guide* data = <const Guide*> problem
    cdef double share = 1 / (1 + exp(-theta[0])), low = exp(theta[1]), high = exp(theta[2])
    cdef double log_low = log(1 - share), log_high = log(share)
    cdef double objective = 0, cells = 0, counts = 0, depth = 0, total = 0, r, weight
    cdef Py_ssize_t k
    for k in range(data.n_bins):
        weight = data.n[k]
        objective += weight * mix(
            log_low + data.y[k] * theta[1] - low * data.d[k],
            log_high + data.y[k] * theta[2] - high * data.d[k], &r,
        )
        cells += weight * r
        counts += weight * r * data.y[k]
        depth += weight * r * data.d[k]
        total += weight * data.y[k]
    for k in range(data.n_zero):
        weight = data.zero_n[k]
        objective += weight * mix(
            log_low - low * data.zero_d[k], log_high - high * data.zero_d[k], &r
        )
        cells += weight * r
        depth += weight * r * data.zero_d[k]
    image[0] = logit_share(cells / data.n_cells)
    image[1] = log(max((total - counts) / max(data.depth - depth, 1e-300), SMALLEST_RATE))
    image[2] = log(max(counts / max(depth, 1e-300), SMALLEST_RATE))
    image[3] = theta[3]
    return objective


# ----------------------------------------------------------------------------------- binomial

cdef double binomial_step(const void* problem, const double* theta, double* image) noexcept nogil:
    cdef const Guide* data = <const Guide*> problem
    cdef double share = 1 / (1 + exp(-theta[0]))
    cdef double log_low = log(1 - share), log_high = log(share)
    cdef double low_q = -log(1 + exp(theta[1])), high_q = -log(1 + exp(theta[2]))
    cdef double objective = 0, cells = 0, counts = 0, depth = 0, total = 0, r, weight
    cdef Py_ssize_t k
    for k in range(data.n_bins):
        weight = data.n[k]
        objective += weight * mix(
            log_low + data.y[k] * theta[1] + low_q * data.d[k],
            log_high + data.y[k] * theta[2] + high_q * data.d[k], &r,
        )
        cells += weight * r
        counts += weight * r * data.y[k]
        depth += weight * r * data.d[k]
        total += weight * data.y[k]
    for k in range(data.n_zero):
        weight = data.zero_n[k]
        objective += weight * mix(
            log_low + low_q * data.zero_d[k], log_high + high_q * data.zero_d[k], &r
        )
        cells += weight * r
        depth += weight * r * data.zero_d[k]
    image[0] = logit_share(cells / data.n_cells)
    image[1] = logit_rate((total - counts) / max(data.depth - depth, 1e-300))
    image[2] = logit_rate(counts / max(depth, 1e-300))
    image[3] = theta[3]
    return objective


cdef double logit_rate(double rate) noexcept nogil:
    return log_odds(between(rate, SMALLEST_RATE, 1 - SMALLEST_RATE))


# ------------------------------------------------------------------------------- neg_binomial

cdef struct Step:
    double score
    double information


cdef inline void add(Step* sums, double weight, double y, double m, double theta) noexcept nogil:
    sums.score += weight * theta * (y - m) / (theta + m)
    sums.information += weight * theta * m / (theta + m)


cdef double neg_binomial_step(const void* problem, const double* point,
                              double* image) noexcept nogil:
    cdef const Guide* data = <const Guide*> problem
    cdef double share = 1 / (1 + exp(-point[0])), theta = exp(point[3])
    cdef double low = exp(point[1]), high = exp(point[2])
    cdef double log_low = log(1 - share), log_high = log(share), log_theta = point[3]
    cdef double objective = 0, cells = 0, gradient = 0, curvature = 0
    cdef double gamma_0 = log_gamma(theta), psi_0 = digamma(theta), psi_1 = trigamma(theta)
    cdef double gamma_y = 0, psi_y = 0, psi_1y = 0, last = -1, y, m, n, r, w, a, b
    cdef Py_ssize_t k
    cdef int z
    cdef Step steps[2]
    steps[0].score = steps[0].information = steps[1].score = steps[1].information = 0
    for k in range(data.n_bins + data.n_zero):
        if k < data.n_bins:
            y, n, m = data.y[k], data.n[k], data.d[k]
            if y != last:
                gamma_y = log_gamma(y + theta) - gamma_0
                psi_y = digamma(y + theta) - psi_0
                psi_1y = trigamma(y + theta) - psi_1
                last = y
        else:
            y, n, m = 0, data.zero_n[k - data.n_bins], data.zero_d[k - data.n_bins]
            gamma_y = psi_y = psi_1y = 0
        a = y * point[1] - (y + theta) * log(theta + low * m) + theta * log_theta
        b = y * point[2] - (y + theta) * log(theta + high * m) + theta * log_theta
        if data.one_component:
            objective += n * (a + gamma_y)
            r = 0
        else:
            objective += n * (mix(log_low + a, log_high + b, &r) + gamma_y)
        cells += n * r
        for z in range(2):
            w = n * r if z else n * (1 - r)
            if w > 0:
                a = (high if z else low) * m
                add(&steps[z], w, y, a, theta)
                b = theta + a
                # log(theta / b) from the objective's own terms would cancel; log is cheap enough.
                gradient += w * (psi_y + log(theta / b) + (a - y) / b)
                curvature += w * (psi_1y + 1 / theta - 2 / b + (y + theta) / (b * b))
    image[0] = point[0] if data.one_component else logit_share(cells / data.n_cells)
    image[1] = point[1] + newton(steps[0].score, steps[0].information)
    image[2] = point[2] + (0 if data.one_component else newton(steps[1].score, steps[1].information))
    gradient *= theta
    curvature = gradient + theta * theta * curvature
    if curvature < 0:
        image[3] = log_theta + between(-gradient / curvature, -1, 1)
    else:
        image[3] = log_theta + (0.5 if gradient > 0 else -0.5)
    image[1] = max(image[1], log(SMALLEST_RATE))
    image[2] = max(image[2], log(SMALLEST_RATE))
    image[3] = between(image[3], log(THETA_LOW), log(THETA_HIGH))
    return objective


cdef double newton(double score, double information) noexcept nogil:
    return between(score / information, -2, 2) if information > 0 else 0
