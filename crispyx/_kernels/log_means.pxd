# Log means of arms without a clamp, from their node sums. Inlined into the kernels.

from libc.math cimport copysign, exp, fabs, log, sqrt

from crispyx._kernels.node_sums cimport (
    Arm, Slopes, Table, group_of, information, int64, kernel_loglikelihood, score, total_size,
    value_t, weigh_cells, weigh_counts,
)

cdef enum:
    LARGEST_STEP = 2
    NULL_ITERATIONS = 100

cdef struct Fit:
    double eta
    int64 iterations
    bint converged


cdef inline void lay_out(Arm* arm, const Table* table, Py_ssize_t k, const value_t* values,
                         const int* ranks, const int64* run_ptr) noexcept nogil:
    """Weigh all cells and counts of group ``k``."""
    arm.group, arm.min_mu = group_of(table, k), 0
    weigh_cells(arm, 0)
    weigh_counts(arm, values + run_ptr[k], ranks + run_ptr[k], run_ptr[k + 1] - run_ptr[k])


cdef inline Fit root(const Arm* arm, const Arm* other, bint penalized, double alpha,
                     double start, int64 max_iterations, double tolerance) noexcept nogil:
    """Solve for the log mean of an arm, or the common one of two; as ``reference._root``."""
    cdef Fit fit
    cdef Slopes slopes, more
    cdef double low = -1e300, high = 1e300, step, w, w1, w2
    cdef int64 i
    fit.eta, fit.converged, fit.iterations = start, False, max_iterations
    for i in range(1, max_iterations + 1):
        slopes = score(arm, fit.eta, alpha)
        if other != NULL:
            more = score(other, fit.eta, alpha)
            slopes.first += more.first
            slopes.second += more.second
        if penalized:
            information(arm, fit.eta, alpha, &w, &w1, &w2)
            slopes.first += w1 / w / 2
            slopes.second -= (w2 / w - (w1 / w) * (w1 / w)) / 2
        if slopes.first > 0:
            low = fit.eta
        else:
            high = fit.eta
        if slopes.second > 0:
            step = slopes.first / slopes.second
        else:
            step = copysign(LARGEST_STEP, slopes.first)
        step = min(max(step, -LARGEST_STEP), LARGEST_STEP)
        if not low <= fit.eta + step <= high:
            step = (low + high) / 2 - fit.eta
        fit.eta += step
        if fabs(step) <= tolerance:
            fit.iterations, fit.converged = i, True
            break
    return fit


cdef inline double empirical_fill(const Arm* arm, const value_t* y, const int* ranks, Py_ssize_t n,
                                  double eta, double alpha) noexcept nogil:
    """Return the sum of ((y - mu) / (1 + alpha mu))^2, no cell clamped; ``w`` is of all cells."""
    cdef double scale = exp(eta), total = 0, m, q
    cdef Py_ssize_t i, j
    for j in range(arm.group.n_nodes):
        m = scale * arm.group.node_s[j]
        m = m / (1 + alpha * m)
        total += arm.w[j] * m * m
    for i in range(n):
        m = scale * arm.group.size_factors[ranks[i]]
        q = 1 / (1 + alpha * m)
        total += y[i] * (y[i] - 2 * m) * q * q
    return total


cdef inline double best_log_mean(const Arm* arm, const Arm* other, double alpha) noexcept nogil:
    """Return the log mean of highest likelihood of an arm, or of two together; a count above 0."""
    cdef double counts = arm.y_above, sizes = total_size(arm)
    if other != NULL:
        counts += other.y_above
        sizes += total_size(other)
    return root(arm, other, False, alpha, log(counts / sizes), NULL_ITERATIONS, 1e-9).eta


cdef inline double likelihood_ratio_root(const Arm* control, const Arm* perturbed, double eta0,
                                         double eta1, double alpha) noexcept nogil:
    """Return the signed root of the likelihood ratio of two log means against one.

    The terms of the counts alone are the same in both likelihoods, and a silent arm has the
    likelihood 1 at its best.
    """
    cdef double null = best_log_mean(control, perturbed, alpha), ratio
    ratio = -kernel_loglikelihood(control, null, alpha)
    ratio -= kernel_loglikelihood(perturbed, null, alpha)
    if control.y_above == 0:
        eta0 = eta1 - 1
    else:
        ratio += kernel_loglikelihood(control, eta0, alpha)
    if perturbed.y_above == 0:
        eta1 = eta0 - 1
    else:
        ratio += kernel_loglikelihood(perturbed, eta1, alpha)
    return copysign(sqrt(max(2 * ratio, 0)), eta1 - eta0)
