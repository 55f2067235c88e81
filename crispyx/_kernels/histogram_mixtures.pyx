"""Two-component fits of guides whose posterior depends on the count alone.

The data of a guide are its distinct counts with their numbers of cells, so an iteration costs
O(distinct counts). Parameters run through :mod:`fixed_point` in unconstrained form: log-odds of the
signal weight, signal mean, log sd, log rate (poisson_gauss) or background mean (gauss).

Every start splits the cells at one value of x; all starts run to a coarse tolerance, then they are
finished in the order of their objective and the first admissible one is the fit.
"""

from libc.math cimport NAN, exp, fabs, log
from cython.parallel cimport prange

from crispyx._kernels.fixed_point cimport Ascent, ascend, em_map
from crispyx._kernels.special cimport between, log_odds, mix

ctypedef long long int64
ctypedef unsigned char uint8

cdef enum:
    MAX_STARTS = 32
    N_PARAMETERS = 4
    OK = 0
    NOT_CONVERGED = 1
    NO_SEPARATION = 2

cdef double LOG_SQRT_TWO_PI = 0.91893853320467274178
cdef double LOG_DIRICHLET = -2.3190888914689487  # -log Gamma(.1) - log Gamma(.9)
cdef double UNBOUNDED = 1e300
cdef double COARSE = 1e-2
cdef double SMALLEST_WEIGHT = 1e-9
cdef double SMALLEST_RATE = 1e-6

ctypedef struct Histogram:
    const double* x
    const double* n
    const double* log_factorial
    Py_ssize_t n_bins
    double n_cells
    bint priors
    double sd_floor


def fit_poisson_gauss(
    const int64[::1] ptr,             # IN (n_guides + 1,)
    const double[::1] x,              # IN (n_bins,), log2 of the distinct counts, rising by guide
    const double[::1] n,              # IN (n_bins,), cells
    const double[::1] log_factorial,  # IN (n_bins,), log Gamma(x + 1)
    bint priors,
    double sd_floor,
    int n_starts,                     # at most 32
    double tolerance,
    int max_iterations,
    double[:, ::1] parameters,        # OUT (n_guides, 4), weight, mu, sd, lam
    double[:, ::1] scores,            # OUT (n_guides, 3), objective, log-likelihood, one component
    int64[::1] n_iterations,          # OUT (n_guides,)
    uint8[::1] status,                # OUT (n_guides,), 0 ok, 1 not converged, 2 no separation
    int n_threads,
):
    """Fit Poisson background and Normal signal on log2 counts."""
    cdef Py_ssize_t g
    with nogil:
        for g in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            fit_guide(
                poisson_gauss_step, start_poisson_gauss, &x[ptr[g]], &n[ptr[g]],
                &log_factorial[ptr[g]], ptr[g + 1] - ptr[g], priors, sd_floor, n_starts,
                tolerance, max_iterations, &parameters[g, 0], &scores[g, 0], &n_iterations[g], &status[g],
            )
            scores[g, 2] = one_poisson_or_gauss(
                &x[ptr[g]], &n[ptr[g]], &log_factorial[ptr[g]], ptr[g + 1] - ptr[g], sd_floor
            )


def fit_gauss(
    const int64[::1] ptr,             # IN (n_guides + 1,)
    const double[::1] x,              # IN (n_bins,), log10(count + 1), rising by guide
    const double[::1] n,              # IN (n_bins,), cells
    double sd_floor,
    int n_starts,                     # at most 32
    double tolerance,
    int max_iterations,
    double[:, ::1] parameters,        # OUT (n_guides, 4), weight, mu_signal, sd, mu_background
    double[:, ::1] scores,            # OUT (n_guides, 3), objective, log-likelihood, one component
    int64[::1] n_iterations,          # OUT (n_guides,)
    uint8[::1] status,                # OUT (n_guides,), 0 ok, 1 not converged, 2 no separation
    int n_threads,
):
    """Fit two Normals with one sd."""
    cdef Py_ssize_t g
    with nogil:
        for g in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            fit_guide(
                gauss_step, start_gauss, &x[ptr[g]], &n[ptr[g]], NULL, ptr[g + 1] - ptr[g], False,
                sd_floor, n_starts, tolerance, max_iterations, &parameters[g, 0], &scores[g, 0],
                &n_iterations[g], &status[g],
            )
            scores[g, 2] = one_normal(&x[ptr[g]], &n[ptr[g]], ptr[g + 1] - ptr[g], sd_floor)


def poisson_gauss_log_odds(
    const int64[::1] ptr,               # IN (n_guides + 1,)
    const double[::1] counts,           # IN (n_bins,), distinct counts, rising by guide
    const double[::1] x,                # IN (n_bins,), their log2
    const double[::1] log_factorial,    # IN (n_bins,), log Gamma(x + 1)
    const double[::1] table_x,          # IN (n_table,), log2 of 1, 2, ..., n_table
    const double[::1] table_factorial,  # IN (n_table,), log Gamma(table_x + 1)
    const double[:, ::1] parameters,    # IN (n_guides, 4), weight, mu, sd, lam
    double[::1] log_odds_of,            # OUT (n_bins,), the largest at any count up to this one
    int n_threads,
):
    """Fill the log-odds, made monotone in the count.

    The running maximum takes every whole number up to ``n_table``, beyond it the observed counts.
    """
    cdef Py_ssize_t g, k, t
    cdef double largest
    with nogil:
        for g in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            t = 0
            largest = -1e300
            for k in range(ptr[g], ptr[g + 1]):
                while t < table_x.shape[0] and t + 1 <= counts[k]:
                    largest = max(largest, poisson_gauss_odds(
                        table_x[t], table_factorial[t], &parameters[g, 0]))
                    t = t + 1
                largest = max(largest, poisson_gauss_odds(
                    x[k], log_factorial[k], &parameters[g, 0]))
                log_odds_of[k] = largest


cdef double poisson_gauss_odds(double x, double log_factorial, const double* p) noexcept nogil:
    cdef double z = (x - p[1]) / p[2]
    return (log_odds(p[0]) - 0.5 * z * z - log(p[2]) - LOG_SQRT_TWO_PI
            - (x * log(p[3]) - p[3] - log_factorial))


ctypedef void (*start_map)(const Histogram* data, double split, double* theta) noexcept nogil


cdef void fit_guide(
    em_map step, start_map start, const double* x, const double* n, const double* log_factorial,
    Py_ssize_t n_bins, bint priors, double sd_floor, int n_starts, double tolerance,
    int max_iterations, double* parameters, double* scores, int64* n_iterations, uint8* status,
) noexcept nogil:
    cdef double thetas[MAX_STARTS * N_PARAMETERS]
    cdef double objectives[MAX_STARTS]
    cdef bint used[MAX_STARTS]
    cdef double image[N_PARAMETERS]
    cdef double low[N_PARAMETERS]
    cdef double high[N_PARAMETERS]
    cdef Histogram data
    cdef Ascent ascent
    cdef Py_ssize_t k
    cdef int i, _j, best
    data.x, data.n, data.log_factorial, data.n_bins = x, n, log_factorial, n_bins
    data.priors, data.sd_floor = priors, sd_floor
    data.n_cells = 0
    for k in range(n_bins):
        data.n_cells += n[k]
    for i in range(N_PARAMETERS):
        low[i], high[i] = -UNBOUNDED, UNBOUNDED
    low[0], high[0] = logit_weight(0), logit_weight(1)
    low[2] = log(sd_floor)
    if log_factorial != NULL and not priors:
        low[3] = log(SMALLEST_RATE)  # as the images have it; beyond it the objective is flat
    n_iterations[0] = 0
    for i in range(n_starts):
        start(&data, x[0] + (i + 0.5) / n_starts * (x[n_bins - 1] - x[0]), &thetas[4 * i])
        ascent = ascend(step, &data, N_PARAMETERS, &thetas[4 * i], low, high, COARSE,
                        min(40, max_iterations))
        objectives[i] = ascent.objective
        used[i] = False
        n_iterations[0] += ascent.n_iterations
    for _j in range(n_starts):
        best = -1
        for i in range(n_starts):
            if not used[i] and (best < 0 or objectives[i] > objectives[best]):
                best = i
        used[best] = True
        ascent = ascend(step, &data, N_PARAMETERS, &thetas[4 * best], low, high, tolerance,
                        max_iterations)
        n_iterations[0] += ascent.n_iterations
        if is_admissible(step, &data, &thetas[4 * best]):
            break
    else:
        status[0] = NO_SEPARATION
        scores[0] = scores[1] = NAN
        for i in range(N_PARAMETERS):
            parameters[i] = NAN
        return
    status[0] = OK if ascent.converged else NOT_CONVERGED
    scores[0] = ascent.objective
    data.priors = False
    scores[1] = step(&data, &thetas[4 * best], image)
    parameters[0] = 1 / (1 + exp(-thetas[4 * best]))
    parameters[1] = thetas[4 * best + 1]
    parameters[2] = exp(thetas[4 * best + 2])
    parameters[3] = thetas[4 * best + 3]
    if log_factorial != NULL:
        parameters[3] = exp(parameters[3])


cdef double logit_weight(double weight) noexcept nogil:
    return log_odds(between(weight, SMALLEST_WEIGHT, 1 - SMALLEST_WEIGHT))


# ------------------------------------------------------------------------------ poisson_gauss

cdef void start_poisson_gauss(const Histogram* data, double split, double* theta) noexcept nogil:
    cdef Py_ssize_t k
    cdef double n = 0, x = 0, square = 0, total = 0, mean
    for k in range(data.n_bins):
        total += data.n[k] * data.x[k]
        if data.x[k] > split:
            n += data.n[k]
            x += data.n[k] * data.x[k]
    mean = x / n
    for k in range(data.n_bins):
        if data.x[k] > split:
            square += data.n[k] * (data.x[k] - mean) * (data.x[k] - mean)
    theta[0] = logit_weight(n / data.n_cells)
    theta[1] = mean
    theta[2] = 0.5 * log(max(square / n, max(data.sd_floor * data.sd_floor, 0.25)))
    theta[3] = log(max((total - x) / max(data.n_cells - n, 1), 0.05))


cdef double poisson_gauss_step(const void* problem, const double* theta,
                               double* image) noexcept nogil:
    cdef const Histogram* data = <const Histogram*> problem
    cdef double weight = 1 / (1 + exp(-theta[0])), mu = theta[1], sd = exp(theta[2])
    cdef double lam = exp(theta[3]), inverse = 0.5 / (sd * sd)
    cdef double log_background = log(1 - weight) - lam
    cdef double log_signal = log(weight) - theta[2] - LOG_SQRT_TWO_PI
    cdef double objective = 0, signal = 0, signal_x = 0, background_x = 0, square = 0, r, n, x
    cdef Py_ssize_t k
    for k in range(data.n_bins):
        x = data.x[k]
        n = data.n[k]
        objective += n * mix(
            log_background + x * theta[3] - data.log_factorial[k],
            log_signal - inverse * (x - mu) * (x - mu), &r,
        )
        signal += n * r
        signal_x += n * r * x
        square += n * r * (x - mu) * (x - mu)
        background_x += n * (1 - r) * x
    if data.priors:
        objective += log_prior(weight, mu, theta[2], theta[3])
        image[0] = logit_weight((signal - 0.9) / max(data.n_cells - 1, SMALLEST_WEIGHT))
        image[1] = (signal_x / (sd * sd) + 0.75) / (signal / (sd * sd) + 0.25)
        image[3] = log_rate(background_x, data.n_cells - signal, theta[3])
    else:
        image[0] = logit_weight(signal / data.n_cells)
        image[1] = signal_x / signal if signal > 0 else mu
        image[3] = log(max(background_x / max(data.n_cells - signal, 1e-300), SMALLEST_RATE))
    # Around the new mean: sum n r (x - new)^2.
    square += (mu - image[1]) * (2 * (signal_x - signal * mu) + signal * (mu - image[1]))
    square = max(square, 0)
    if data.priors:
        image[2] = log_sd(signal, square, theta[2], log(data.sd_floor))
    else:
        image[2] = 0.5 * log(max(square / max(signal, 1e-300), data.sd_floor * data.sd_floor))
    return objective


cdef double log_prior(double weight, double mu, double log_sd, double log_lam) noexcept nogil:
    """Densities at the parameters themselves, not at their logarithms.

    (1 - weight, weight) ~ Dir(.9, .1), mu ~ N(3, 2), sd ~ LogN(2, 1), lam ~ LogN(0, 1).
    """
    return (LOG_DIRICHLET - 0.1 * log(1 - weight) - 0.9 * log(weight)
            - (mu - 3) * (mu - 3) / 8 - log(2.0) - LOG_SQRT_TWO_PI
            - log_sd - 0.5 * (log_sd - 2) * (log_sd - 2) - LOG_SQRT_TWO_PI
            - log_lam - 0.5 * log_lam * log_lam - LOG_SQRT_TWO_PI)


cdef double log_rate(double a, double b, double t) noexcept nogil:
    """Solve a - 1 - t = b exp(t), the mode of log lam."""
    cdef double gap, change
    cdef int _i
    for _i in range(60):
        gap = a - 1 - t - b * exp(t)
        change = between(gap / (1 + b * exp(t)), -2, 2)
        t += change
        if fabs(change) < 1e-14:
            break
    return t


cdef double log_sd(double n, double square, double t, double low) noexcept nogil:
    """Solve square exp(-2 t) = n - 1 + t, the mode of log sd, on t >= low."""
    cdef double change
    cdef int _i
    if square * exp(-2 * low) <= n - 1 + low:
        return low
    for _i in range(60):
        change = square * exp(-2 * t)
        change = between((change - (n - 1 + t)) / (2 * change + 1), -2, 2)
        t += change
        if fabs(change) < 1e-14:
            break
    return max(t, low)


cdef double one_umi_odds(const double* theta) noexcept nogil:
    """Log-odds that a count of 1 is signal under gauss."""
    cdef double middle = 0.5 * (theta[1] + theta[3])
    return theta[0] + (theta[1] - theta[3]) * (log(2.0) / log(10.0) - middle) * exp(-2 * theta[2])


cdef bint is_admissible(em_map step, const Histogram* data, const double* theta) noexcept nogil:
    """The signal's mean is above that of the background and the weight off its bounds.

    gauss: a count of 1 is background.
    """
    cdef double weight = 1 / (1 + exp(-theta[0])), r, n = 0, x = 0, sd = exp(theta[2])
    cdef Py_ssize_t k
    if not 2 * SMALLEST_WEIGHT < weight < 1 - 2 * SMALLEST_WEIGHT:
        return False
    if data.log_factorial == NULL:
        return theta[1] > theta[3] and one_umi_odds(theta) <= 0
    for k in range(data.n_bins):
        mix(log(1 - weight) - exp(theta[3]) + data.x[k] * theta[3] - data.log_factorial[k],
            log(weight) - theta[2] - LOG_SQRT_TWO_PI
            - 0.5 * (data.x[k] - theta[1]) * (data.x[k] - theta[1]) / (sd * sd), &r)
        n += data.n[k] * (1 - r)
        x += data.n[k] * (1 - r) * data.x[k]
    return n <= 0 or theta[1] > x / n


cdef double one_normal(const double* x, const double* n, Py_ssize_t n_bins,
                       double sd_floor) noexcept nogil:
    """Log-likelihood of the best single Normal."""
    cdef double cells = 0, total = 0, square = 0, mean, variance
    cdef Py_ssize_t k
    for k in range(n_bins):
        cells += n[k]
        total += n[k] * x[k]
    mean = total / cells
    for k in range(n_bins):
        square += n[k] * (x[k] - mean) * (x[k] - mean)
    variance = max(square / cells, sd_floor * sd_floor)
    return -cells * (0.5 * log(variance) + LOG_SQRT_TWO_PI) - 0.5 * square / variance


cdef double one_poisson_or_gauss(const double* x, const double* n, const double* log_factorial,
                                 Py_ssize_t n_bins, double sd_floor) noexcept nogil:
    """Log-likelihood of the better of background alone and signal alone."""
    cdef double cells = 0, total = 0, factorials = 0, background = 0
    cdef Py_ssize_t k
    for k in range(n_bins):
        cells += n[k]
        total += n[k] * x[k]
        factorials += n[k] * log_factorial[k]
    background = -factorials
    if total > 0:
        background += total * log(total / cells) - total
    return max(background, one_normal(x, n, n_bins, sd_floor))


# -------------------------------------------------------------------------------------- gauss

cdef void start_gauss(const Histogram* data, double split, double* theta) noexcept nogil:
    cdef Py_ssize_t k
    cdef double n = 0, x = 0, total = 0, square = 0, low, high
    for k in range(data.n_bins):
        total += data.n[k] * data.x[k]
        if data.x[k] > split:
            n += data.n[k]
            x += data.n[k] * data.x[k]
    high = x / n
    low = (total - x) / (data.n_cells - n)
    for k in range(data.n_bins):
        if data.x[k] > split:
            square += data.n[k] * (data.x[k] - high) * (data.x[k] - high)
        else:
            square += data.n[k] * (data.x[k] - low) * (data.x[k] - low)
    theta[0] = logit_weight(n / data.n_cells)
    theta[1] = high
    theta[2] = 0.5 * log(max(square / data.n_cells, data.sd_floor * data.sd_floor))
    theta[3] = low


cdef double gauss_step(const void* problem, const double* theta, double* image) noexcept nogil:
    cdef const Histogram* data = <const Histogram*> problem
    cdef double weight = 1 / (1 + exp(-theta[0])), inverse = 0.5 * exp(-2 * theta[2])
    cdef double log_background = log(1 - weight) - theta[2] - LOG_SQRT_TWO_PI
    cdef double log_signal = log(weight) - theta[2] - LOG_SQRT_TWO_PI
    cdef double objective = 0, signal = 0, high = 0, low = 0, square = 0, r, n, a, b
    cdef Py_ssize_t k
    for k in range(data.n_bins):
        n = data.n[k]
        a = data.x[k] - theta[3]
        b = data.x[k] - theta[1]
        objective += n * mix(log_background - inverse * a * a, log_signal - inverse * b * b, &r)
        signal += n * r
        low += n * (1 - r) * a
        high += n * r * b
        square += n * ((1 - r) * a * a + r * b * b)
    n = data.n_cells - signal
    image[0] = logit_weight(signal / data.n_cells)
    image[1] = theta[1] + (high / signal if signal > 0 else 0)
    image[3] = theta[3] + (low / n if n > 0 else 0)
    square -= (high * high / signal if signal > 0 else 0) + (low * low / n if n > 0 else 0)
    image[2] = 0.5 * log(max(square / data.n_cells, data.sd_floor * data.sd_floor))
    return objective
