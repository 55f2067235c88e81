"""Molecules drawn from every cell, each cell with random numbers of its own."""

from cython.parallel cimport prange
from libc.stdint cimport uint64_t

ctypedef long long int64

ctypedef fused value_t:
    float
    double

cdef uint64_t STEP = 0x9E3779B97F4A7C15ULL


cdef inline uint64_t mixed(uint64_t z) noexcept nogil:
    z = (z ^ (z >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9ULL
    z = (z ^ (z >> 27)) * <uint64_t> 0x94D049BB133111EBULL
    return z ^ (z >> 31)


cdef inline double uniform(uint64_t state) noexcept nogil:
    return <double> (mixed(state) >> 11) * (1.0 / 9007199254740992.0)


def downsample_rows(
    const value_t[::1] values,  # IN (nnz,), counts
    const int64[::1] ptr,       # IN (n_rows + 1,)
    const int64[::1] n_kept,    # IN (n_rows,), molecules to keep
    int64 first_cell,
    uint64_t seed,
    bint replace,
    value_t[::1] out,           # OUT (nnz,), what is left of each count
    int n_threads,
):
    """Draw molecules from every row; random numbers come of the seed and of the row's place."""
    cdef Py_ssize_t i
    with nogil:
        for i in prange(n_kept.shape[0], schedule="dynamic", chunksize=64, num_threads=n_threads):
            if ptr[i + 1] > ptr[i]:
                downsample_row(
                    &values[ptr[i]], ptr[i + 1] - ptr[i], n_kept[i], first_cell + i, seed, replace,
                    &out[ptr[i]],
                )


cdef void downsample_row(
    const value_t* values, Py_ssize_t n, int64 n_kept, int64 cell, uint64_t seed, bint replace,
    value_t* out,
) noexcept nogil:
    cdef uint64_t state = mixed(mixed(seed + STEP) ^ (<uint64_t> (cell + 1) * STEP))
    cdef int64 left = 0, wanted = n_kept, _draw, molecule, at, count
    cdef Py_ssize_t j
    for j in range(n):
        left += <int64> values[j]
    if left == 0 or (n_kept >= left and not replace):
        for j in range(n):
            out[j] = values[j]
        return
    for j in range(n):
        out[j] = 0
    if replace:
        for _draw in range(n_kept):
            state += STEP
            molecule = <int64> (uniform(state) * left)
            at = 0
            for j in range(n):
                at += <int64> values[j]
                if molecule < at:
                    out[j] += 1
                    break
        return
    for j in range(n):
        count = 0
        for _draw in range(<int64> values[j]):
            if wanted == 0:
                break
            state += STEP
            if uniform(state) * left < wanted:
                count += 1
                wanted -= 1
            left -= 1
        out[j] = <value_t> count
        if wanted == 0:
            return
