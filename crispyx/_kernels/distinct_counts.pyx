"""Distinct keys of every guide with their numbers of cells, and a look-up back to the cells."""

from cython.parallel cimport prange, threadid

from crispyx._kernels.sorting cimport sort_values

ctypedef long long int64


def group_keys(
    const int64[::1] ptr,       # IN (n_guides + 1,)
    int64[::1] keys,            # IN OUT (nnz,), of each guide: in any order in, distinct and rising out
    int64[:, ::1] scratch,      # SCRATCH (n_threads, longest guide)
    double[::1] n_cells,        # OUT (nnz,), cells of each distinct key
    int64[::1] n_distinct,      # OUT (n_guides,)
    int n_threads,
):
    """Sort and count the keys; the distinct ones stand first in the place of their guide."""
    cdef Py_ssize_t g
    cdef int t
    with nogil:
        for g in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            t = threadid()
            n_distinct[g] = 0
            if ptr[g + 1] > ptr[g]:
                sort_values(&keys[ptr[g]], &scratch[t, 0], ptr[g + 1] - ptr[g])
                n_distinct[g] = compress(&keys[ptr[g]], &n_cells[ptr[g]], ptr[g + 1] - ptr[g])


def look_up(
    const int64[::1] ptr,           # IN (n_guides + 1,)
    const int64[::1] keys,          # IN (nnz,)
    const int64[::1] bin_ptr,       # IN (n_guides + 1,)
    const int64[::1] bin_keys,      # IN (n_bins,), distinct and rising by guide
    const double[::1] bin_values,   # IN (n_bins,)
    double[::1] values,             # OUT (nnz,)
    int n_threads,
):
    """Give every cell the value of its key."""
    cdef Py_ssize_t g, j, low, high, middle
    with nogil:
        for g in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            for j in range(ptr[g], ptr[g + 1]):
                low = bin_ptr[g]
                high = bin_ptr[g + 1] - 1
                while low < high:
                    middle = (low + high) // 2
                    if bin_keys[middle] < keys[j]:
                        low = middle + 1
                    else:
                        high = middle
                values[j] = bin_values[low]


cdef int64 compress(int64* keys, double* n_cells, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j, k = 0
    n_cells[0] = 1
    for j in range(1, n):
        if keys[j] == keys[k]:
            n_cells[k] += 1
        else:
            k += 1
            keys[k] = keys[j]
            n_cells[k] = 1
    return k + 1
