"""Library sizes, scaling and log1p, value by value in float64."""

from libc.math cimport log1p
from cython.parallel cimport prange

ctypedef long long int64

cdef enum:
    SMALL = 64  # most counts are below it

ctypedef fused value_t:
    float
    double


def add_row_totals(
    const value_t[::1] values,  # IN (nnz,)
    const int64[::1] ptr,       # IN (n_rows + 1,)
    double[::1] totals,         # OUT (n_rows,)
    int n_threads,
):
    """Sum each row in the order of its columns."""
    cdef Py_ssize_t i, j
    cdef double total
    with nogil:
        for i in prange(totals.shape[0], schedule="static", num_threads=n_threads):
            total = 0
            for j in range(ptr[i], ptr[i + 1]):
                total = total + values[j]
            totals[i] = total


def add_column_totals(
    const value_t[::1] values,  # IN (nnz,)
    const int[::1] rows,        # IN (nnz,)
    double[::1] totals,         # IN OUT (n_rows,)
):
    """Add a block of columns to the row totals; columns come in order, so each row's sum does too."""
    cdef Py_ssize_t j
    with nogil:
        for j in range(values.shape[0]):
            totals[rows[j]] += values[j]


def scale_rows(
    const value_t[::1] values,  # IN (nnz,), nothing below 0
    const int64[::1] ptr,       # IN (n_rows + 1,)
    const double[::1] totals,   # IN (n_rows,), above 0 in a row that has values
    double target_sum,
    bint take_log1p,
    float[::1] out,             # OUT (nnz,)
    int n_threads,
):
    """Write ``values * target_sum / totals[row]``, then log1p when asked for.

    The product comes first: of a count and a whole target it is exact, and the quotient is rounded
    once.
    """
    cdef Py_ssize_t i
    with nogil:
        for i in prange(totals.shape[0], schedule="static", num_threads=n_threads):
            if ptr[i + 1] > ptr[i]:
                scale_row(
                    &values[ptr[i]], ptr[i + 1] - ptr[i], totals[i], target_sum, take_log1p,
                    &out[ptr[i]],
                )


cdef void scale_row(
    const value_t* values, Py_ssize_t n, double total, double target_sum, bint take_log1p,
    float* out,
) noexcept nogil:
    """Scale one row; a small count that occurs again is not computed again."""
    cdef float known[SMALL]
    cdef Py_ssize_t j
    cdef int count
    cdef double v
    for count in range(SMALL):
        known[count] = -1
    for j in range(n):
        count = <int> values[j] if values[j] < SMALL else 0
        if values[j] == count and known[count] >= 0:
            out[j] = known[count]
            continue
        v = values[j] * target_sum / total
        out[j] = <float> (log1p(v) if take_log1p else v)
        if values[j] == count:
            known[count] = out[j]


def scale_by_cell(
    const value_t[::1] values,  # IN (nnz,)
    const int[::1] cells,       # IN (nnz,)
    const double[::1] sizes,    # IN (n_cells,), library sizes, above 0 where a cell has values
    double target_sum,
    double[::1] out,            # OUT (nnz,)
    int n_threads,
):
    """Write ``log1p(values * target_sum / sizes[cell])`` for values stored gene by gene."""
    cdef Py_ssize_t j
    with nogil:
        for j in prange(values.shape[0], schedule="static", num_threads=n_threads):
            out[j] = log1p(values[j] * target_sum / sizes[cells[j]])
