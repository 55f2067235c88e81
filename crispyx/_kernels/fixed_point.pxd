# Ascent of an EM map with Anderson acceleration; inlined into the kernels of each model family.
#
# A map returns the objective at theta and writes the EM image of theta. The next point is the image
# corrected by the secants of the last steps (Walker and Ni, SIAM J Numer Anal 49, 2011); a point
# that lowers the objective is thrown away, with the secants, for the plain EM step, so the objective
# never falls. With as many secants as parameters, convergence near an optimum is superlinear.

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


cdef inline void anderson(const double* theta, const double* image, double* df, double* dg,
                          int stored, int p, double* proposal) noexcept nogil:
    """Write the accelerated point; ``df`` and ``dg`` (stored, p) hold secants, the newest last."""
    cdef double q[MAX_PARAMETERS * MAX_PARAMETERS]
    cdef double h[MAX_PARAMETERS * MAX_PARAMETERS]
    cdef double norms[MAX_PARAMETERS]
    cdef double residual[MAX_PARAMETERS]
    cdef double c, norm
    cdef int i, j, k, kept = 0
    for i in range(p):
        residual[i] = image[i] - theta[i]
        proposal[i] = image[i]
    for j in range(stored - 1, -1, -1):
        for i in range(p):
            q[kept * MAX_PARAMETERS + i] = df[j * MAX_PARAMETERS + i]
            h[kept * MAX_PARAMETERS + i] = dg[j * MAX_PARAMETERS + i]
        for k in range(kept):
            c = dot(&q[kept * MAX_PARAMETERS], &q[k * MAX_PARAMETERS], p) / norms[k]
            for i in range(p):
                q[kept * MAX_PARAMETERS + i] -= c * q[k * MAX_PARAMETERS + i]
                h[kept * MAX_PARAMETERS + i] -= c * h[k * MAX_PARAMETERS + i]
        norm = dot(&q[kept * MAX_PARAMETERS], &q[kept * MAX_PARAMETERS], p)
        if norm <= 1e-10 * dot(&df[j * MAX_PARAMETERS], &df[j * MAX_PARAMETERS], p):
            continue
        norms[kept] = norm
        c = dot(&q[kept * MAX_PARAMETERS], residual, p) / norm
        for i in range(p):
            proposal[i] -= c * h[kept * MAX_PARAMETERS + i]
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
    """Move ``theta`` to a maximum; converged when an EM step moves no parameter by ``tolerance``.

    ``low`` and ``high`` (p,) bound every point; images of the map lie within them by themselves.
    """
    cdef double image[MAX_PARAMETERS]
    cdef double proposal[MAX_PARAMETERS]
    cdef double new_image[MAX_PARAMETERS]
    cdef double df[MAX_PARAMETERS * MAX_PARAMETERS]
    cdef double dg[MAX_PARAMETERS * MAX_PARAMETERS]
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
        anderson(theta, image, df, dg, stored, p, proposal)
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
        if stored == p:
            for k in range(1, stored):
                for i in range(p):
                    df[(k - 1) * MAX_PARAMETERS + i] = df[k * MAX_PARAMETERS + i]
                    dg[(k - 1) * MAX_PARAMETERS + i] = dg[k * MAX_PARAMETERS + i]
            stored -= 1
        for i in range(p):
            dg[stored * MAX_PARAMETERS + i] = new_image[i] - image[i]
            df[stored * MAX_PARAMETERS + i] = new_image[i] - proposal[i] - image[i] + theta[i]
            theta[i] = proposal[i]
            image[i] = new_image[i]
        stored += 1
        result.objective = after
    return result
