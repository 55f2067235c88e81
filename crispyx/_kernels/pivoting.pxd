# Solving symmetric systems of which some unknowns cannot be told apart, or from nothing.

cdef extern from *:
    """
    /* Information, in counts, below which a coefficient has run off; and the share of its information
       that a column keeps beside those before it. */
    #define CRISPYX_NOTHING 1e-9
    #define CRISPYX_ALIASED 1e-10
    """
    double NOTHING "CRISPYX_NOTHING"
    double ALIASED "CRISPYX_ALIASED"


cdef inline void solve(
    const double* matrix, Py_ssize_t n, bint arrowhead, const double* right, double* lower,
    double* pivots, double* solution,
) noexcept nogil:
    """Solve with the lower triangle of ``matrix``; unknowns without a pivot of their own are 0.

    In an arrowhead all off the diagonal is 0 but for the last row.
    """
    cdef Py_ssize_t i, j, m
    cdef double inner
    for j in range(n):
        inner = 0
        if not arrowhead or j == n - 1:
            for m in range(j):
                inner += lower[j * n + m] * lower[j * n + m] * pivots[m]
        pivots[j] = matrix[j * n + j] - inner
        if not pivots[j] > NOTHING + ALIASED * matrix[j * n + j]:
            pivots[j] = 0
        for i in range(n - 1 if arrowhead and j + 1 < n else j + 1, n):
            inner = 0
            if not arrowhead:
                for m in range(j):
                    inner += lower[i * n + m] * lower[j * n + m] * pivots[m]
            lower[i * n + j] = (matrix[i * n + j] - inner) / pivots[j] if pivots[j] > 0 else 0
    for j in range(n):
        solution[j] = 0
        if pivots[j] > 0:
            inner = 0
            if not arrowhead or j == n - 1:
                for m in range(j):
                    inner += lower[j * n + m] * solution[m]
            solution[j] = right[j] - inner
    for j in range(n - 1, -1, -1):
        if pivots[j] > 0:
            inner = 0
            for i in range(n - 1 if arrowhead and j + 1 < n else j + 1, n):
                inner += lower[i * n + j] * solution[i]
            solution[j] = solution[j] / pivots[j] - inner
