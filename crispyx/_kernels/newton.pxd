# Newton's method for concave likelihoods; as `reference.covariates.highest_likelihood`.

from libc.math cimport fabs
from libc.string cimport memcpy

from crispyx._kernels.node_sums cimport int64
from crispyx._kernels.pivoting cimport solve

cdef enum:
    MAX_HALVINGS = 30

cdef extern from *:
    """
    #define CRISPYX_LARGEST_STEP 2.0  /* of a coefficient */
    #define CRISPYX_OVERSHOOT 0.5     /* of the score along a step, turned round */
    """
    double LARGEST_STEP "CRISPYX_LARGEST_STEP"
    double OVERSHOOT "CRISPYX_OVERSHOOT"

# Sets the score (n,) and the lower triangle of the observed information (n, n).
ctypedef void (*Gradient)(
    void* problem, Py_ssize_t n, const double* beta, double* score, double* matrix
) noexcept nogil

cdef struct Fit:
    int64 iterations
    bint converged

cdef struct Newton:  # what it works on
    double* beta      # (n_all,), start and end
    double* step      # (n,)
    double* score     # (n,)
    double* solution  # (n_all,)
    double* pivots    # (n,)
    double* matrix    # (n, n)
    double* lower     # (n, n)
    bint arrowhead    # the information is 0 off the diagonal but for its last row


cdef inline Fit climb(
    void* problem, Gradient slopes_at, Newton at, Py_ssize_t n, Py_ssize_t n_all,
    int64 max_iterations, double tolerance,
) noexcept nogil:
    """Move the first n of all coefficients to the highest likelihood."""
    cdef Fit fit
    cdef Py_ssize_t j
    cdef double largest, slope, along
    cdef int64 i
    cdef int halving
    fit.converged, fit.iterations = False, max_iterations
    slopes_at(problem, n, at.beta, at.score, at.matrix)
    for i in range(1, max_iterations + 1):
        solve(at.matrix, n, at.arrowhead, at.score, at.lower, at.pivots, at.step)
        largest = slope = 0
        for j in range(n):
            largest = max(largest, fabs(at.step[j]))
        for j in range(n):
            at.step[j] *= min(1.0, LARGEST_STEP / max(largest, LARGEST_STEP))
            slope += at.score[j] * at.step[j]
        for halving in range(MAX_HALVINGS + 1):
            memcpy(at.solution, at.beta, n_all * sizeof(double))
            for j in range(n):
                at.solution[j] += at.step[j]
            slopes_at(problem, n, at.solution, at.score, at.matrix)
            along = 0
            for j in range(n):
                along += at.score[j] * at.step[j]
            if along >= -OVERSHOOT * slope or halving == MAX_HALVINGS:
                break
            slope /= 2
            for j in range(n):
                at.step[j] /= 2
        memcpy(at.beta, at.solution, n * sizeof(double))
        largest = 0
        for j in range(n):
            largest = max(largest, fabs(at.step[j]))
        if largest <= tolerance:
            fit.iterations, fit.converged = i, True
            break
    return fit
