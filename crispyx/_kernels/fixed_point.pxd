# Ascent of an EM map with Anderson acceleration; inlined into the kernels of each model family.
#
# A map returns the objective at theta and writes the EM image of theta. The next point is the image
# corrected by the secants of the last steps (Walker and Ni, SIAM J Numer Anal 49, 2011); a point
# that lowers the objective is thrown away, with the secants, for the plain EM step, so the objective
# never falls. There are as many secants as parameters, at most nine; up to nine parameters
# convergence near an optimum is superlinear.

from libc.math cimport fabs, isfinite

cdef enum:
    MAX_PARAMETERS = 9

ctypedef double (*em_map)(const void* problem, const double* theta, double* image) noexcept nogil

cdef struct Ascent:
    double objective
    int n_iterations
    bint converged


cdef inline double dot(const double* a, const double* b, int n) noexcept nogil:
    cdef int i
    cdef double total = 0
    for i in range(n):
        total += a[i] * b[i]
    return total


cdef inline void anderson(const double* theta, const double* image, const double* df,
                          const double* dg, int stored, int p, double* proposal,
                          double* work) noexcept nogil:
    """Write the accelerated point; ``df`` and ``dg`` (stored, p) hold secants, the newest last.

    ``work`` has room for (2 * stored + 1) * p numbers.
    """
    cdef double* residual = work
    cdef double* q = work + p
    cdef double* h = q + stored * p
    cdef double norms[MAX_PARAMETERS]
    cdef double c, norm
    cdef int i, j, k, kept = 0
    for i in range(p):
        residual[i] = image[i] - theta[i]
        proposal[i] = image[i]
    for j in range(stored - 1, -1, -1):
        for i in range(p):
            q[kept * p + i] = df[j * p + i]
            h[kept * p + i] = dg[j * p + i]
        for k in range(kept):
            c = dot(&q[kept * p], &q[k * p], p) / norms[k]
            for i in range(p):
                q[kept * p + i] -= c * q[k * p + i]
                h[kept * p + i] -= c * h[k * p + i]
        norm = dot(&q[kept * p], &q[kept * p], p)
        if norm <= 1e-10 * dot(&df[j * p], &df[j * p], p):
            continue
        norms[kept] = norm
        c = dot(&q[kept * p], residual, p) / norm
        for i in range(p):
            proposal[i] -= c * h[kept * p + i]
        kept += 1
    for i in range(p):
        if not isfinite(proposal[i]) or fabs(proposal[i] - theta[i]) > 3:
            for k in range(p):
                proposal[k] = image[k]
            return


cdef inline bint not_worse(double after, double before) noexcept nogil:
    return after >= before - 1e-12 * (1 + fabs(before))


cdef inline Ascent ascend(em_map step, const void* problem, int p, double* theta,
                          const double* low, const double* high, double tolerance,
                          int max_iterations) noexcept nogil:
    """Move up to nine parameters ``theta`` to a maximum; see :func:`climb`."""
    cdef double work[(4 * MAX_PARAMETERS + 4) * MAX_PARAMETERS]
    return climb(step, problem, p, theta, low, high, tolerance, max_iterations, work)


cdef inline Ascent climb(em_map step, const void* problem, int p, double* theta,
                         const double* low, const double* high, double tolerance,
                         int max_iterations, double* work) noexcept nogil:
    """Move ``theta`` (p,) to a maximum; converged when an EM step moves no parameter by ``tolerance``.

    ``low`` and ``high`` (p,) bound every point; images of the map lie within them by themselves.
    ``work`` has room for (4 * min(p, 9) + 4) * p numbers.
    """
    cdef int window = min(p, MAX_PARAMETERS)
    cdef double* image = work
    cdef double* proposal = work + p
    cdef double* new_image = work + 2 * p
    cdef double* df = work + 3 * p
    cdef double* dg = df + window * p
    cdef double* more_work = dg + window * p
    cdef double after, fraction, largest
    cdef int i, k, stored = 0
    cdef Ascent result
    for i in range(p):
        theta[i] = min(max(theta[i], low[i]), high[i])
    result.objective = step(problem, theta, image)
    result.n_iterations = 1
    result.converged = False
    while result.n_iterations < max_iterations:
        largest = 0
        for i in range(p):
            largest = max(largest, fabs(image[i] - theta[i]))
        if largest <= tolerance:
            result.converged = True
            return result
        anderson(theta, image, df, dg, stored, p, proposal, more_work)
        for i in range(p):
            proposal[i] = min(max(proposal[i], low[i]), high[i])
        after = step(problem, proposal, new_image)
        result.n_iterations += 1
        fraction = 1
        while not not_worse(after, result.objective):
            if fraction < 1e-3:
                # Rounding of the objective hides what is left of the step.
                result.converged = largest <= 1e4 * tolerance
                return result
            stored = 0
            for i in range(p):
                proposal[i] = theta[i] + fraction * (image[i] - theta[i])
            after = step(problem, proposal, new_image)
            result.n_iterations += 1
            fraction = fraction / 2
        if stored == window:
            for k in range(1, stored):
                for i in range(p):
                    df[(k - 1) * p + i] = df[k * p + i]
                    dg[(k - 1) * p + i] = dg[k * p + i]
            stored -= 1
        for i in range(p):
            dg[stored * p + i] = new_image[i] - image[i]
            df[stored * p + i] = new_image[i] - proposal[i] - image[i] + theta[i]
            theta[i] = proposal[i]
            image[i] = new_image[i]
        stored += 1
        result.objective = after
    return result
