"""Guide calls by rule, one flag per stored count.

Counts are whole numbers below 2^53, so sums and maxima are exact in float64, and a proportion is
one correctly rounded division: flags do not depend on layout, blocks or threads.
"""

from cython.parallel cimport prange

ctypedef long long int64
ctypedef unsigned char uint8

ctypedef fused value_t:
    float
    double


def assign_umi(
    const value_t[::1] values,  # IN (nnz,)
    double threshold,
    uint8[::1] assigned,        # OUT (nnz,)
    int n_threads,
):
    """Flag every count of at least ``threshold``."""
    cdef Py_ssize_t j
    with nogil:
        for j in prange(values.shape[0], schedule="static", num_threads=n_threads):
            assigned[j] = values[j] > 0 and values[j] >= threshold


def assign_max(
    const value_t[::1] values,  # IN (nnz,)
    const int64[::1] ptr,       # IN (n_cells + 1,)
    double umi_threshold,
    uint8[::1] assigned,        # OUT (nnz,)
    int n_threads,
):
    """Flag the largest count of a cell when it stands alone and reaches ``umi_threshold``."""
    cdef Py_ssize_t i
    with nogil:
        for i in prange(ptr.shape[0] - 1, schedule="static", num_threads=n_threads):
            if ptr[i] < ptr[i + 1]:
                max_cell(&values[ptr[i]], ptr[i + 1] - ptr[i], umi_threshold, &assigned[ptr[i]])


def assign_ratio(
    const value_t[::1] values,  # IN (nnz,)
    const int64[::1] ptr,       # IN (n_cells + 1,)
    double threshold,
    uint8[::1] assigned,        # OUT (nnz,)
    int n_threads,
):
    """Flag the largest counts of a cell when their proportion is above ``threshold``."""
    cdef Py_ssize_t i
    with nogil:
        for i in prange(ptr.shape[0] - 1, schedule="static", num_threads=n_threads):
            if ptr[i] < ptr[i + 1]:
                ratio_cell(&values[ptr[i]], ptr[i + 1] - ptr[i], threshold, &assigned[ptr[i]])


cdef void max_cell(const value_t* counts, Py_ssize_t n, double floor, uint8* assigned) noexcept nogil:
    cdef Py_ssize_t j, winner = 0
    cdef bint alone = True
    assigned[0] = 0
    for j in range(1, n):
        assigned[j] = 0
        if counts[j] > counts[winner]:
            winner = j
            alone = True
        elif counts[j] == counts[winner]:
            alone = False
    if alone and counts[winner] > 0 and counts[winner] >= floor:
        assigned[winner] = 1


cdef void ratio_cell(const value_t* counts, Py_ssize_t n, double threshold,
                     uint8* assigned) noexcept nogil:
    cdef Py_ssize_t j
    cdef double total = 0, largest = 0
    cdef bint above
    for j in range(n):
        total += counts[j]
        if counts[j] > largest:
            largest = counts[j]
    above = largest > 0 and largest / total > threshold
    for j in range(n):
        assigned[j] = above and counts[j] == largest
