"""Beta mixtures of the largest guide proportion of each cell.

The M-step solves psi(a) - psi(a + b) = mean log x, psi(b) - psi(a + b) = mean log(1 - x) by Newton's
method, with the terms of the priors. Components are written in the order of their means.
"""

from libc.math cimport exp, fabs, log
from cython.parallel cimport prange

from crispyx._kernels.fixed_point cimport MAX_PARAMETERS, Ascent, ascend
from crispyx._kernels.special cimport between, digamma, log_gamma, trigamma

ctypedef long long int64
ctypedef unsigned char uint8

cdef enum:
    MAX_COMPONENTS = 3
    MAX_STARTS = 8
    OK = 0
    NOT_CONVERGED = 1
    NO_SEPARATION = 2

cdef double COARSE = 1e-2
cdef double MARGIN = 5      # of a start's objective below the best end, to be finished too
cdef double SMALLEST_WEIGHT = 1e-9
cdef double SMALLEST_SHAPE = 1e-3
cdef double LARGEST_SHAPE = 1e3

ctypedef struct Proportions:
    const double* log_x
    const double* log_1x
    const double* n
    Py_ssize_t n_bins
    double n_cells
    int n_components
    const double* concentration


def fit_beta(
    int n_components,
    const int64[::1] ptr,              # IN (n_fits + 1,)
    const double[::1] log_x,           # IN (n_bins,), log of the distinct proportions
    const double[::1] log_1x,          # IN (n_bins,), log of one minus them
    const double[::1] n,               # IN (n_bins,), cells
    const double[::1] concentration,   # IN (n_components,) of the Dirichlet prior; (0,) no priors
    const double[:, ::1] starts,       # IN (n_starts <= 8, 3 * n_components), weights, a, b
    double tolerance,
    int max_iterations,
    double[:, ::1] parameters,         # OUT (n_fits, 3 * n_components), weights, a, b
    double[:, ::1] scores,             # OUT (n_fits, 3), objective, log-likelihood, one component
    int64[::1] n_iterations,           # OUT (n_fits,)
    uint8[::1] status,                 # OUT (n_fits,), 0 ok, 1 not converged, 2 no separation
    int n_threads,
):
    """Fit every group of cells.

    The starts whose objective comes near that of the best end, elsewhere, are finished.
    """
    cdef Py_ssize_t g
    cdef const double* prior = &concentration[0] if concentration.shape[0] > 0 else NULL
    with nogil:
        for g in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            fit_group(
                n_components, &log_x[ptr[g]], &log_1x[ptr[g]], &n[ptr[g]], ptr[g + 1] - ptr[g],
                prior, &starts[0, 0], starts.shape[0], tolerance, max_iterations,
                &parameters[g, 0], &scores[g, 0], &n_iterations[g], &status[g],
            )


cdef void fit_group(
    int n_components, const double* log_x, const double* log_1x, const double* n,
    Py_ssize_t n_bins, const double* prior, const double* starts, Py_ssize_t n_starts,
    double tolerance, int max_iterations, double* parameters, double* scores, int64* n_iterations,
    uint8* status,
) noexcept nogil:
    cdef double thetas[MAX_STARTS * MAX_PARAMETERS]
    cdef double objectives[MAX_STARTS]
    cdef bint used[MAX_STARTS]
    cdef double image[MAX_PARAMETERS]
    cdef double low[MAX_PARAMETERS]
    cdef double high[MAX_PARAMETERS]
    cdef double ordered[MAX_PARAMETERS]
    cdef double* theta = thetas
    cdef bint admissible
    cdef int i, j, _j, best, chosen = 0, p = 3 * n_components - 1
    cdef Py_ssize_t k
    cdef Proportions data
    cdef Ascent ascent
    data.log_x, data.log_1x, data.n, data.n_bins = log_x, log_1x, n, n_bins
    data.n_components, data.concentration = n_components, prior
    data.n_cells = 0
    for k in range(n_bins):
        data.n_cells += n[k]
    for i in range(MAX_PARAMETERS):
        low[i] = log(SMALLEST_SHAPE) if i < 2 * n_components else log(SMALLEST_WEIGHT)
        high[i] = log(LARGEST_SHAPE) if i < 2 * n_components else -log(SMALLEST_WEIGHT)
    n_iterations[0] = 0
    status[0] = NO_SEPARATION
    for j in range(n_starts):
        theta = &thetas[j * MAX_PARAMETERS]
        from_start(starts + j * 3 * n_components, n_components, theta)
        ascent = ascend(beta_step, &data, p, theta, low, high, COARSE,
                        min(60, max_iterations))
        n_iterations[0] += ascent.n_iterations
        objectives[j] = ascent.objective
        used[j] = False
    for _j in range(n_starts):
        best = -1
        for j in range(n_starts):
            if not used[j] and (best < 0 or objectives[j] > objectives[best]):
                best = j
        if status[0] != NO_SEPARATION and objectives[best] < scores[0] - MARGIN:
            break
        used[best] = True
        theta = &thetas[best * MAX_PARAMETERS]
        if status[0] != NO_SEPARATION and is_near(theta, &thetas[chosen * MAX_PARAMETERS], p):
            continue
        ascent = ascend(beta_step, &data, p, theta, low, high, tolerance, max_iterations)
        n_iterations[0] += ascent.n_iterations
        write_ordered(theta, n_components, ordered)
        admissible = is_admissible(ordered, n_components)
        if _j == 0 or (admissible and (status[0] == NO_SEPARATION
                                       or ascent.objective > scores[0])):
            chosen = best
            scores[0] = ascent.objective
            for j in range(3 * n_components):
                parameters[j] = ordered[j]
            if admissible:
                status[0] = OK if ascent.converged else NOT_CONVERGED
    theta = &thetas[chosen * MAX_PARAMETERS]
    data.concentration = NULL
    scores[1] = beta_step(&data, theta, image)
    data.n_components = 1
    theta[0] = theta[1] = 0
    scores[2] = ascend(
        beta_step, &data, 2, theta, low, high, tolerance, max_iterations
    ).objective


cdef bint is_near(const double* a, const double* b, int p) noexcept nogil:
    """On the way to the same end."""
    cdef int i
    for i in range(p):
        if fabs(a[i] - b[i]) > 0.1:
            return False
    return True


cdef bint is_admissible(const double* parameters, int n_components) noexcept nogil:
    """The component of the largest mean is the densest towards 1: its b is the smallest.

    No shape stands at its bounds.
    """
    cdef int c
    cdef const double* b = parameters + 2 * n_components
    for c in range(n_components, 3 * n_components):
        if not 1.000001 * SMALLEST_SHAPE < parameters[c] < 0.999999 * LARGEST_SHAPE:
            return False
    for c in range(n_components - 1):
        if not b[c] > b[n_components - 1]:
            return False
    return True


cdef void from_start(const double* start, int n_components, double* theta) noexcept nogil:
    """theta: log a and log b of each component, then log(weight / last weight)."""
    cdef int c
    for c in range(n_components):
        theta[2 * c] = log(start[n_components + c])
        theta[2 * c + 1] = log(start[2 * n_components + c])
        if c < n_components - 1:
            theta[2 * n_components + c] = log(start[c] / start[n_components - 1])


cdef void weights_of(const double* theta, int n_components, double* weights) noexcept nogil:
    cdef int c
    cdef double largest = 0, total = 0
    for c in range(n_components):
        weights[c] = theta[2 * n_components + c] if c < n_components - 1 else 0
        largest = max(largest, weights[c])
    for c in range(n_components):
        weights[c] = exp(weights[c] - largest)
        total += weights[c]
    for c in range(n_components):
        weights[c] /= total


cdef void write_ordered(const double* theta, int n_components, double* parameters) noexcept nogil:
    cdef double weights[MAX_COMPONENTS]
    cdef bint used[MAX_COMPONENTS]
    cdef int c, position, lowest
    weights_of(theta, n_components, weights)
    for c in range(n_components):
        used[c] = False
    for position in range(n_components):
        lowest = -1
        for c in range(n_components):
            # log a - log b rises with the mean
            if not used[c] and (lowest < 0 or theta[2 * c] - theta[2 * c + 1]
                                < theta[2 * lowest] - theta[2 * lowest + 1]):
                lowest = c
        used[lowest] = True
        parameters[position] = weights[lowest]
        parameters[n_components + position] = exp(theta[2 * lowest])
        parameters[2 * n_components + position] = exp(theta[2 * lowest + 1])


cdef double beta_step(const void* problem, const double* theta, double* image) noexcept nogil:
    cdef const Proportions* data = <const Proportions*> problem
    cdef int c, n_components = data.n_components
    cdef double weights[MAX_COMPONENTS]
    cdef double constant[MAX_COMPONENTS]
    cdef double a[MAX_COMPONENTS]
    cdef double b[MAX_COMPONENTS]
    cdef double term[MAX_COMPONENTS]
    cdef double cells[MAX_COMPONENTS]
    cdef double sum_x[MAX_COMPONENTS]
    cdef double sum_1x[MAX_COMPONENTS]
    cdef double objective = 0, largest, total, r, n
    cdef Py_ssize_t k
    weights_of(theta, n_components, weights)
    for c in range(n_components):
        a[c] = exp(theta[2 * c])
        b[c] = exp(theta[2 * c + 1])
        constant[c] = (log(weights[c]) + log_gamma(a[c] + b[c]) - log_gamma(a[c])
                       - log_gamma(b[c]))
        cells[c] = sum_x[c] = sum_1x[c] = 0
    for k in range(data.n_bins):
        n = data.n[k]
        for c in range(n_components):
            term[c] = constant[c] + (a[c] - 1) * data.log_x[k] + (b[c] - 1) * data.log_1x[k]
        largest = term[0]
        for c in range(1, n_components):
            largest = max(largest, term[c])
        total = 0
        for c in range(n_components):
            term[c] = exp(term[c] - largest)
            total += term[c]
        objective += n * (largest + log(total))
        for c in range(n_components):
            r = n * term[c] / total
            cells[c] += r
            sum_x[c] += r * data.log_x[k]
            sum_1x[c] += r * data.log_1x[k]
    if data.concentration != NULL:
        objective += log_dirichlet(data.concentration, n_components)
    for c in range(n_components):
        image[2 * c] = theta[2 * c]
        image[2 * c + 1] = theta[2 * c + 1]
        if data.concentration != NULL:
            objective += (data.concentration[c] - 1) * log(weights[c])
            objective += log_prior(theta[2 * c]) + log_prior(theta[2 * c + 1])
        solve_shapes(cells[c], sum_x[c], sum_1x[c], data.concentration != NULL, &image[2 * c])
        weights[c] = cells[c]
        if data.concentration != NULL:
            weights[c] += data.concentration[c] - 1
        weights[c] = max(weights[c], SMALLEST_WEIGHT * data.n_cells)
    for c in range(n_components - 1):
        image[2 * n_components + c] = log(weights[c] / weights[n_components - 1])
    return objective


cdef double log_dirichlet(const double* concentration, int n) noexcept nogil:
    """Log of the constant of the density."""
    cdef double total = 0, value = 0
    cdef int c
    for c in range(n):
        total += concentration[c]
        value -= log_gamma(concentration[c])
    return value + log_gamma(total)


cdef double log_prior(double log_shape) noexcept nogil:
    """shape ~ LogN(1, 1), the density of the shape itself."""
    return -log_shape - 0.5 * (log_shape - 1) * (log_shape - 1) - 0.91893853320467274178


cdef bint is_held(double log_shape, double gradient) noexcept nogil:
    return ((log_shape >= log(LARGEST_SHAPE) and gradient > 0)
            or (log_shape <= log(SMALLEST_SHAPE) and gradient < 0))


cdef void solve_shapes(double cells, double sum_x, double sum_1x, bint priors,
                       double* log_shapes) noexcept nogil:
    """Newton's method in log a and log b."""
    cdef double a, b, both, ga, gb, haa, hbb, hab, determinant, da, db, tri
    cdef bint a_held, b_held
    cdef int _i
    if cells < 1e-8:
        return
    for _i in range(100):
        a = exp(log_shapes[0])
        b = exp(log_shapes[1])
        both = digamma(a + b)
        tri = cells * trigamma(a + b)
        ga = a * (cells * (both - digamma(a)) + sum_x)
        gb = b * (cells * (both - digamma(b)) + sum_1x)
        haa = a * a * (tri - cells * trigamma(a)) + ga
        hbb = b * b * (tri - cells * trigamma(b)) + gb
        hab = a * b * tri
        if priors:
            ga -= log_shapes[0]  # d/dt of -t - (t - 1)^2 / 2
            gb -= log_shapes[1]
            haa -= 1
            hbb -= 1
        # A shape held at its bound leaves the other one alone.
        a_held = is_held(log_shapes[0], ga)
        b_held = is_held(log_shapes[1], gb)
        determinant = haa * hbb - hab * hab
        if a_held or b_held:
            da = 0 if a_held else -ga / haa if haa < 0 else 0.5 if ga > 0 else -0.5
            db = 0 if b_held else -gb / hbb if hbb < 0 else 0.5 if gb > 0 else -0.5
        elif haa < 0 and determinant > 0:
            da = -(hbb * ga - hab * gb) / determinant
            db = -(haa * gb - hab * ga) / determinant
        else:
            da = 0.5 if ga > 0 else -0.5
            db = 0.5 if gb > 0 else -0.5
        da = between(da, -1, 1)
        db = between(db, -1, 1)
        log_shapes[0] = between(log_shapes[0] + da, log(SMALLEST_SHAPE), log(LARGEST_SHAPE))
        log_shapes[1] = between(log_shapes[1] + db, log(SMALLEST_SHAPE), log(LARGEST_SHAPE))
        if fabs(da) < 1e-12 and fabs(db) < 1e-12:
            return
