"""Mean, variance and number of expressing cells of every (gene, group).

Sums run over the non-zeros in the order of the cells, in float64, and the variance is taken in a
second pass around the mean, with the zeros of the group added in closed form: the result does not
depend on threads, blocks or layout, and does not cancel for values far from zero. Equal values have
variance 0 exactly, whatever the rounding of their mean.
"""

from cython.parallel cimport prange

ctypedef long long int64

cdef enum:
    ROWS = 16  # taken at a time: other threads need the cores as well

ctypedef fused value_t:
    float
    double


def fractions(
    const int64[:, ::1] n_expressing,  # IN (n_groups, n_genes)
    const int64[::1] n_cells,          # IN (n_groups,)
    float[:, ::1] fraction,            # OUT (n_groups, n_genes), NaN for a group without cells
    int n_threads,
):
    """Fill the fraction of expressing cells."""
    cdef Py_ssize_t k, g
    cdef double n, nan = float("nan")
    with nogil:
        for k in prange(n_expressing.shape[0], schedule="dynamic", chunksize=ROWS, num_threads=n_threads):
            n = <double> n_cells[k] if n_cells[k] > 0 else nan
            for g in range(n_expressing.shape[1]):
                fraction[k, g] = <float> (<double> n_expressing[k, g] / n)


def group_moments(
    const value_t[::1] values,       # IN (nnz,)
    const int64[:, ::1] run_ptr,     # IN (n_genes, n_groups + 1)
    const int64[::1] group_sizes,    # IN (n_groups,)
    double[:, ::1] mean,             # OUT (n_groups, n_genes), NaN for an empty group
    bint with_variance,              # else variance is left alone
    double[:, ::1] variance,         # OUT (n_groups, n_genes), ddof 1, NaN below two cells
    int64[:, ::1] n_expressing,      # OUT (n_groups, n_genes), cells with value > 0
    int n_threads,
):
    """Fill the three tables."""
    cdef Py_ssize_t g, k, j
    cdef int64 n, positive
    cdef double total, center, squares, low, high, nan = float("nan")
    cdef Py_ssize_t n_groups = group_sizes.shape[0]
    with nogil:
        # Neighboring genes share cache lines of the tables: one thread takes eight of them.
        for g in prange(run_ptr.shape[0], schedule="dynamic", chunksize=8, num_threads=n_threads):
            for k in range(n_groups):
                n = group_sizes[k]
                total = 0
                positive = 0
                low = high = 0
                if run_ptr[g, k + 1] - run_ptr[g, k] == n and n > 0:
                    low = high = values[run_ptr[g, k]]
                for j in range(run_ptr[g, k], run_ptr[g, k + 1]):
                    total = total + values[j]
                    positive = positive + (values[j] > 0)
                center = total / n if n > 0 else nan
                mean[k, g] = center
                n_expressing[k, g] = positive
                if not with_variance:
                    continue
                variance[k, g] = nan
                if n < 2:
                    continue
                squares = (n - (run_ptr[g, k + 1] - run_ptr[g, k])) * center * center
                for j in range(run_ptr[g, k], run_ptr[g, k + 1]):
                    squares = squares + (values[j] - center) * (values[j] - center)
                    if values[j] < low:
                        low = values[j]
                    if values[j] > high:
                        high = values[j]
                variance[k, g] = squares / (n - 1) if low < high else 0
