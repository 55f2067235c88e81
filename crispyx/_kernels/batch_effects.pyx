"""Fits of poisson, neg_binomial and binomial with a background of its own for every batch.

Cells of equal batch and depth form a stratum, and those without the guide enter by the numbers of
the strata alone: an iteration costs O(distinct (count, stratum) pairs + strata). Parameters run
through :mod:`fixed_point` as log-odds of the signal share, effect of the guide b_1, log theta, and
the log rates (log-odds for the binomial) c_b of the batches' backgrounds.

The image of a point takes the share in closed form, one scoring step in (b_1, c_1, ..., c_B)
together and, for the negative binomial, one Newton step in log theta (EM gradient algorithm, Lange,
J R Stat Soc B 57, 1995). In the scoring step b_0 is one more unknown; every c_b is tied to b_1 and
b_0 alone, so eliminating the c_b leaves two equations.
"""

from libc.math cimport NAN, exp, fabs, log
from cython.parallel cimport prange, threadid

from crispyx._kernels.fixed_point cimport Ascent, climb
from crispyx._kernels.special cimport between, digamma, log_gamma, log_odds, mix, trigamma

ctypedef long long int64
ctypedef unsigned char uint8

cdef enum:
    OK = 0
    NOT_CONVERGED = 1
    NO_SEPARATION = 2
    POISSON = 0
    NEG_BINOMIAL = 1
    BINOMIAL = 2
    FIRST = 3               # theta: share, b_1, log theta, then c_b
    N_SUMS = 6

cdef double COARSE = 1e-2
cdef double SMALLEST_SHARE = 1e-9
cdef double SMALLEST_GAP = 1e-6
cdef double LARGEST_GAP = 50
cdef double LARGEST_RATE = 25
cdef double THETA_LOW = 0.01
cdef double THETA_HIGH = 1e4
cdef double THETA_START = 5
cdef double LOG_SQRT_TWO_PI = 0.91893853320467274178

ctypedef struct Guide:
    int model
    const double* y         # distinct (count, stratum), rising in y
    const int64* stratum
    const double* n
    Py_ssize_t n_bins
    const double* d         # exposure (trials) and batch of each stratum
    const int64* batch
    double* left            # cells without the guide
    Py_ssize_t n_strata
    int n_batches
    double n_cells
    bint priors
    double intercept_variance
    bint one_component
    double* sums            # (N_SUMS, n_batches)

cdef struct Slopes:
    double score
    double information
    double theta_score
    double theta_curvature


def fit_batch_effects(
    int model,                       # 0 poisson, 1 neg_binomial, 2 binomial
    const int64[::1] ptr,            # IN (n_guides + 1,)
    const double[::1] y,             # IN (n_bins,), counts, rising by guide
    const int64[::1] stratum,        # IN (n_bins,), position among the strata
    const double[::1] n,             # IN (n_bins,), cells
    const double[::1] depths,        # IN (n_strata,), exposure or number of trials
    const int64[::1] batch_of,       # IN (n_strata,)
    const double[::1] cells_at,      # IN (n_strata,), all cells of the stratum
    int n_batches,
    bint priors,
    double intercept_variance,
    const double[:, ::1] pooled,     # IN (n_guides, 4), fits without batches, NaN where none
    int n_starts,                    # further starts
    double tolerance,
    int max_iterations,
    double[:, ::1] left,             # SCRATCH (n_threads, n_strata)
    double[:, ::1] work,             # SCRATCH (n_threads, 50 * (n_batches + 3))
    double[:, ::1] parameters,       # OUT (n_guides, 4), share, b_0, b_0 + b_1, theta
    double[:, ::1] effects,          # OUT (n_guides, n_batches), g_b
    double[:, ::1] scores,           # OUT (n_guides, 3), objective, log-likelihood, one component
    int64[::1] n_iterations,         # OUT (n_guides,)
    uint8[::1] status,               # OUT (n_guides,), 0 ok, 1 not converged, 2 no separation
    int n_threads,
):
    """Fit every guide."""
    cdef Py_ssize_t g
    cdef int t
    with nogil:
        for g in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            t = threadid()
            fit_guide(
                model, &y[ptr[g]], &stratum[ptr[g]], &n[ptr[g]], ptr[g + 1] - ptr[g], &depths[0],
                &batch_of[0], &cells_at[0], depths.shape[0], n_batches, priors,
                intercept_variance, &pooled[g, 0], n_starts, tolerance, max_iterations,
                &left[t, 0], &work[t, 0], &parameters[g, 0], &effects[g, 0], &scores[g, 0],
                &n_iterations[g], &status[g],
            )


cdef void fit_guide(
    int model, const double* y, const int64* stratum, const double* n, Py_ssize_t n_bins,
    const double* depths, const int64* batch_of, const double* cells_at, Py_ssize_t n_strata,
    int n_batches, bint priors, double intercept_variance, const double* pooled, int n_starts,
    double tolerance, int max_iterations, double* left, double* work, double* parameters,
    double* effects, double* scores, int64* n_iterations, uint8* status,
) noexcept nogil:
    cdef int p = n_batches + FIRST, i
    cdef double* low = work
    cdef double* high = work + p
    cdef double* theta = work + 2 * p
    cdef double* best = work + 3 * p
    cdef double* more_work = work + 4 * p
    cdef double above, last_above = -1, objective = 0, constant
    cdef bint any_start = False
    cdef Guide data
    cdef Ascent ascent
    data.model, data.y, data.stratum, data.n, data.n_bins = model, y, stratum, n, n_bins
    data.d, data.batch, data.left, data.n_strata = depths, batch_of, left, n_strata
    data.n_batches, data.priors, data.one_component = n_batches, priors, False
    data.intercept_variance, data.sums = intercept_variance, work + 44 * p
    count_the_rest(&data, cells_at)
    bounds(&data, low, high)
    n_iterations[0] = 0
    for i in range(-1, n_starts):
        if i < 0:
            above = start_pooled(&data, pooled, theta)
        else:
            above = start_split(&data, split_of(i, n_starts, y[n_bins - 1]), theta)
        if above == 0 or above == last_above:
            continue
        last_above = above
        ascent = climb(step, &data, p, theta, low, high, COARSE, min(40, max_iterations),
                       more_work)
        n_iterations[0] += ascent.n_iterations
        if not any_start or ascent.objective > objective:
            any_start = True
            objective = ascent.objective
            copy(theta, best, p)
    constant = log_constant(&data)
    if any_start:
        ascent = climb(step, &data, p, best, low, high, tolerance, max_iterations, more_work)
        n_iterations[0] += ascent.n_iterations
    if any_start and write_parameters(&data, best, parameters, effects):
        status[0] = OK if ascent.converged else NOT_CONVERGED
        scores[0] = ascent.objective + constant
        scores[1] = scores[0] - penalty(&data, best)
    else:
        give_up(n_batches, parameters, effects, scores, status)
    start_split(&data, 0, theta)
    data.one_component, data.priors = True, False
    theta[0] = theta[1] = 0
    climb(step, &data, p, theta, low, high, tolerance, max_iterations, more_work)
    scores[2] = step(&data, theta, best) - penalty(&data, theta) + constant


cdef void copy(const double* source, double* target, int p) noexcept nogil:
    cdef int i
    for i in range(p):
        target[i] = source[i]


cdef void give_up(int n_batches, double* parameters, double* effects, double* scores,
                  uint8* status) noexcept nogil:
    cdef int i
    for i in range(4):
        parameters[i] = NAN
    for i in range(n_batches):
        effects[i] = NAN
    scores[0] = scores[1] = NAN
    status[0] = NO_SEPARATION


cdef void count_the_rest(Guide* data, const double* cells_at) noexcept nogil:
    cdef Py_ssize_t k
    data.n_cells = 0
    for k in range(data.n_strata):
        data.left[k] = cells_at[k]
        data.n_cells += cells_at[k]
    for k in range(data.n_bins):
        data.left[data.stratum[k]] -= data.n[k]


cdef void bounds(const Guide* data, double* low, double* high) noexcept nogil:
    cdef int b
    low[0], high[0] = logit_share(0), logit_share(1)
    low[1], high[1] = SMALLEST_GAP / 10, LARGEST_GAP
    low[2], high[2] = log(THETA_LOW), log(THETA_HIGH)
    for b in range(data.n_batches):
        low[FIRST + b], high[FIRST + b] = -LARGEST_RATE, LARGEST_RATE


cdef double split_of(int i, int n_starts, double largest) noexcept nogil:
    """Where ambient counts end in most screens, then relative to the largest count."""
    if i < 3:
        return 3 if i == 0 else 6 if i == 1 else 15
    return 0.25 * largest if i == 3 else exp(log(largest) * (i - 3) / (n_starts - 3))


cdef double start_pooled(const Guide* data, const double* pooled, double* theta) noexcept nogil:
    """Parameters of the fit without batches; returns 0 if there is none, else -2."""
    cdef int b
    if pooled[0] != pooled[0]:
        return 0
    theta[0] = log_odds(pooled[0])
    theta[1] = pooled[2] - pooled[1]
    theta[2] = log(pooled[3]) if data.model == NEG_BINOMIAL else 0
    for b in range(data.n_batches):
        theta[FIRST + b] = pooled[1]
    return -2


cdef double start_split(const Guide* data, double split, double* theta) noexcept nogil:
    """Parameters when counts of at least ``split`` are signal; returns the number of those cells."""
    cdef double cells = 0, signal = 0, signal_d = 0, background = 0, depth = 0, low, high
    cdef Py_ssize_t k
    cdef int b
    for k in range(data.n_strata):
        depth += data.left[k] * data.d[k]
    for k in range(data.n_bins):
        depth += data.n[k] * data.d[data.stratum[k]]
        if data.y[k] >= split:
            cells += data.n[k]
            signal += data.n[k] * data.y[k]
            signal_d += data.n[k] * data.d[data.stratum[k]]
        else:
            background += data.n[k] * data.y[k]
    if split == 0:
        background, signal, signal_d = signal, 0, 0
    low = between((background + 0.01) / max(depth - signal_d, 1), 1e-10, 0.999)
    high = between(signal / max(signal_d, 1), 1e-10, 0.999)
    if data.model == BINOMIAL:
        low, high = log_odds(low), log_odds(high)
    else:
        low, high = log(low), log(high)
    theta[0] = logit_share(cells / data.n_cells)
    theta[1] = max(high - low, 1)
    theta[2] = log(THETA_START) if data.model == NEG_BINOMIAL else 0
    for b in range(data.n_batches):
        theta[FIRST + b] = low
    return cells


cdef double intercept(const Guide* data, const double* theta) noexcept nogil:
    """The best b_0 given the background of each batch."""
    cdef double total = 0
    cdef int b
    for b in range(data.n_batches):
        total += theta[FIRST + b]
    return total / (data.n_batches + precision(data))


cdef inline double precision(const Guide* data) noexcept nogil:
    return 1 / data.intercept_variance if data.priors else 0


cdef double penalty(const Guide* data, const double* theta) noexcept nogil:
    """What the objective has beyond the log-likelihood.

    g_b ~ N(0, 1); with priors also b_0 ~ N(0, v), b_1 ~ LogN(1, 2), theta ~ LogN(1, 1) and the share
    ~ Beta(1, 10).
    """
    cdef double b0 = intercept(data, theta), total = 0, t
    cdef int b
    for b in range(data.n_batches):
        t = theta[FIRST + b] - b0
        total -= 0.5 * t * t
    if not data.priors:
        return total
    t = log(theta[1])
    total -= t + (t - 1) * (t - 1) / 8 + log(2.0) + LOG_SQRT_TWO_PI
    total -= data.n_batches * LOG_SQRT_TWO_PI
    total -= (0.5 * b0 * b0 / data.intercept_variance + 0.5 * log(data.intercept_variance)
              + LOG_SQRT_TWO_PI)
    total += log(10.0) - 9 * log(1 + exp(theta[0]))
    if data.model == NEG_BINOMIAL:
        total -= theta[2] + 0.5 * (theta[2] - 1) * (theta[2] - 1) + LOG_SQRT_TWO_PI
    return total


cdef bint write_parameters(const Guide* data, const double* theta, double* parameters,
                           double* effects) noexcept nogil:
    """Fill the fit; False when it is not admissible: no two rates, or a share at its bounds."""
    cdef double share = 1 / (1 + exp(-theta[0])), b0 = intercept(data, theta)
    cdef int b
    parameters[0] = share
    parameters[1] = b0
    parameters[2] = b0 + theta[1]
    parameters[3] = exp(theta[2]) if data.model == NEG_BINOMIAL else NAN
    for b in range(data.n_batches):
        effects[b] = theta[FIRST + b] - b0
    return theta[1] > SMALLEST_GAP and 2 * SMALLEST_SHARE < share < 1 - 2 * SMALLEST_SHARE


cdef double logit_share(double share) noexcept nogil:
    return log_odds(between(share, SMALLEST_SHARE, 1 - SMALLEST_SHARE))


cdef double log_constant(const Guide* data) noexcept nogil:
    """The part of the log-likelihood without parameters."""
    cdef double total = 0, d
    cdef Py_ssize_t k
    for k in range(data.n_bins):
        d = data.d[data.stratum[k]]
        total -= data.n[k] * log_gamma(data.y[k] + 1)
        if data.model == BINOMIAL:
            total += data.n[k] * (log_gamma(d + 1) - log_gamma(d - data.y[k] + 1))
        else:
            total += data.n[k] * data.y[k] * log(d)
    return total


# ---------------------------------------------------------------------------------- one step

cdef inline double density(int model, double y, double d, double t, double rate, double theta,
                           double log_theta, Slopes* slopes) noexcept nogil:
    """Log density up to its constant; ``rate`` is exp(t), for the binomial the probability."""
    cdef double m = rate * d, total
    if model == POISSON:
        slopes.score, slopes.information = y - m, m
        return y * t - m
    if model == BINOMIAL:
        slopes.score, slopes.information = y - m, m * (1 - rate)
        return y * t + d * log(1 - rate)
    total = theta + m
    slopes.score, slopes.information = theta * (y - m) / total, theta * m / total
    # Beyond the terms of psi, which both components share.
    slopes.theta_score = log(theta / total) + (m - y) / total
    slopes.theta_curvature = 1 / theta - 2 / total + (y + theta) / (total * total)
    return y * t - (y + theta) * log(total) + theta * log_theta


cdef double step(const void* problem, const double* point, double* image) noexcept nogil:
    cdef const Guide* data = <const Guide*> problem
    cdef int n_batches = data.n_batches, b
    cdef double* low = data.sums
    cdef double* high = low + n_batches
    cdef double* score = high + n_batches          # of c_b
    cdef double* information = score + n_batches
    cdef double* signal = information + n_batches  # information of the signal alone
    cdef double theta = exp(point[2]), share = 1 / (1 + exp(-point[0]))
    cdef double log_low = log(1 - share), log_high = log(share)
    cdef double gamma_0 = 0, psi_0 = 0, psi_1 = 0, gamma_y = 0, psi_y = 0, psi_1y = 0, last = 0
    cdef double objective = 0, cells = 0, gap_score = 0, slope = 0, curve = 0
    cdef double y, n, d, r, a, c
    cdef Py_ssize_t k
    cdef Slopes zero, one
    if data.model == NEG_BINOMIAL:
        gamma_0, psi_0, psi_1 = log_gamma(theta), digamma(theta), trigamma(theta)
    for b in range(n_batches):
        a = point[FIRST + b]
        c = a + point[1]
        low[b] = 1 / (1 + exp(-a)) if data.model == BINOMIAL else exp(a)
        high[b] = 1 / (1 + exp(-c)) if data.model == BINOMIAL else exp(c)
        score[b] = information[b] = signal[b] = 0
    for k in range(data.n_bins + data.n_strata):
        if k < data.n_bins:
            y, n = data.y[k], data.n[k]
            d, b = data.d[data.stratum[k]], <int> data.batch[data.stratum[k]]
            if data.model == NEG_BINOMIAL and y != last:
                gamma_y = log_gamma(y + theta) - gamma_0
                psi_y = digamma(y + theta) - psi_0
                psi_1y = trigamma(y + theta) - psi_1
                last = y
        else:
            y, n = 0, data.left[k - data.n_bins]
            if n <= 0:
                continue
            d, b = data.d[k - data.n_bins], <int> data.batch[k - data.n_bins]
            gamma_y = psi_y = psi_1y = 0
        a = density(data.model, y, d, point[FIRST + b], low[b], theta, point[2], &zero)
        r = 0
        if data.one_component:
            objective += n * (a + gamma_y)
        else:
            c = density(data.model, y, d, point[FIRST + b] + point[1], high[b], theta, point[2],
                        &one)
            objective += n * (mix(log_low + a, log_high + c, &r) + gamma_y)
        cells += n * r
        score[b] += n * (1 - r) * zero.score
        information[b] += n * (1 - r) * zero.information
        if r > 0:
            score[b] += n * r * one.score
            information[b] += n * r * one.information
            signal[b] += n * r * one.information
            gap_score += n * r * one.score
        if data.model == NEG_BINOMIAL:
            slope += n * (psi_y + (1 - r) * zero.theta_score)
            curve += n * (psi_1y + (1 - r) * zero.theta_curvature)
            if r > 0:
                slope += n * r * one.theta_score
                curve += n * r * one.theta_curvature
    image[0] = point[0]
    if not data.one_component:
        image[0] = logit_share(cells / (data.n_cells + (9 if data.priors else 0)))
    step_rates(data, point, gap_score, image)
    image[2] = point[2]
    if data.model == NEG_BINOMIAL:
        image[2] = step_theta(data, point[2], theta * slope, theta * theta * curve)
    return objective + penalty(data, point)


cdef double step_theta(const Guide* data, double t, double slope, double curve) noexcept nogil:
    """Newton's step in t = log theta, from theta times the slope and theta^2 times the curvature."""
    curve += slope
    if data.priors:
        slope -= t  # LogN(1, 1): -t - (t - 1)^2 / 2
        curve -= 1
    t += between(-slope / curve, -1, 1) if curve < 0 else 0.5 if slope > 0 else -0.5
    return between(t, log(THETA_LOW), log(THETA_HIGH))


cdef void step_rates(const Guide* data, const double* point, double gap_score,
                     double* image) noexcept nogil:
    """Scoring step in (b_1, b_0, c_b); a c_b or b_1 at its bound stays there while pushed outward.

    With s, j the score and information of c_b, its prior included, and k its information shared
    with b_1: j dc + k db_1 - db_0 = s for each batch, sum(k dc) + sum(k) db_1 = the score of b_1
    and -sum(dc) + (B + precision) db_0 = 0.
    """
    cdef int n_batches = data.n_batches, b
    cdef double* score = data.sums + 2 * n_batches
    cdef double* information = score + n_batches
    cdef double* signal = information + n_batches
    cdef double* change = signal + n_batches
    cdef double b0 = intercept(data, point), t, gap_change = 0, intercept_change = 0, scale = 1
    cdef double gap_information = 0, gap_intercept = 0, intercept_information, right = 0
    cdef double determinant, slope, largest
    intercept_information = n_batches + precision(data)
    if data.priors:
        t = log(point[1])
        slope = -(1 + (t - 1) / 4) / point[1]
        gap_score += slope
        gap_information += max((slope + 0.25 / point[1]) / point[1], 0)
    for b in range(n_batches):
        score[b] += b0 - point[FIRST + b]
        information[b] += 1
        gap_information += signal[b]
        if is_held(point[FIRST + b], -LARGEST_RATE, LARGEST_RATE, score[b]):
            continue
        gap_information -= signal[b] * signal[b] / information[b]
        gap_intercept += signal[b] / information[b]
        intercept_information -= 1 / information[b]
        gap_score -= signal[b] * score[b] / information[b]
        right += score[b] / information[b]
    if (data.one_component or gap_information <= 1e-12
            or is_held(point[1], SMALLEST_GAP / 10, LARGEST_GAP, gap_score)):
        gap_information, gap_intercept, gap_score = 1, 0, 0
    determinant = gap_information * intercept_information - gap_intercept * gap_intercept
    if determinant > 1e-12 * gap_information * (1 + intercept_information):
        gap_change = (gap_score * intercept_information - gap_intercept * right) / determinant
        intercept_change = (gap_information * right - gap_intercept * gap_score) / determinant
    else:
        gap_change = gap_score / gap_information
    largest = fabs(gap_change)
    for b in range(n_batches):
        change[b] = 0
        if not is_held(point[FIRST + b], -LARGEST_RATE, LARGEST_RATE, score[b]):
            change[b] = (score[b] - signal[b] * gap_change + intercept_change) / information[b]
        largest = max(largest, fabs(change[b]))
    if largest > 2:
        scale = 2 / largest
    image[1] = between(point[1] + scale * gap_change, SMALLEST_GAP / 10, LARGEST_GAP)
    for b in range(n_batches):
        image[FIRST + b] = between(
            point[FIRST + b] + scale * change[b], -LARGEST_RATE, LARGEST_RATE
        )


cdef bint is_held(double at, double low, double high, double score) noexcept nogil:
    return (at <= low and score < 0) or (at >= high and score > 0)
