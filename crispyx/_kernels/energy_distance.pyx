"""Sums of distances between cells in an embedding; the distances themselves are never kept.

Every sum belongs to one cell or one subset of cells, is taken by one thread and in the order of the
cells: it does not depend on the number of threads.
"""

from libc.string cimport memcpy
from cython.parallel cimport prange

ctypedef long long int64

cdef extern from "distances.h" nogil:
    void crispyx_add_distances(const double*, int64, const double*, int64, int64, double*)
    double crispyx_pair_distances(const double*, int64, int64)

cdef enum:
    LANES = 8
    TILE = 16  # cells that share one reading of all others

WIDTH = LANES


def add_distances(
    const double[:, ::1] points,  # IN (n_points, d), d a multiple of WIDTH
    const double[:, ::1] others,  # IN (n_others, d)
    double[::1] sums,             # IN OUT (n_points,)
    int n_threads,
):
    """Add to the sum of each point its distances to all others."""
    cdef Py_ssize_t n = points.shape[0], n_others = others.shape[0]
    cdef Py_ssize_t n_eights = points.shape[1] // LANES
    cdef Py_ssize_t t, start
    if n == 0 or n_others == 0:
        return
    with nogil:
        for t in prange((n + TILE - 1) // TILE, schedule="dynamic", num_threads=n_threads):
            start = t * TILE
            crispyx_add_distances(
                &points[start, 0], min(<Py_ssize_t> TILE, n - start), &others[0, 0], n_others,
                n_eights, &sums[start],
            )


def subset_distances(
    const double[:, ::1] points,  # IN (n_points, d), d a multiple of WIDTH
    const int[:, ::1] subsets,    # IN (n_subsets, size), points of each subset
    double[:, :, ::1] scratch,    # SCRATCH (n_threads, size, d)
    double[::1] totals,           # OUT (n_subsets,)
    int n_threads,
):
    """Fill in the distances between the points of each subset, each pair once."""
    cdef Py_ssize_t n_subsets = subsets.shape[0], size = subsets.shape[1], d = points.shape[1]
    cdef Py_ssize_t t, s, i, k
    if n_subsets == 0 or size == 0:
        return
    with nogil:
        for t in prange(n_threads, schedule="static", num_threads=n_threads):
            for k in range((n_subsets - t + n_threads - 1) // n_threads):
                s = t + k * n_threads
                for i in range(size):
                    memcpy(&scratch[t, i, 0], &points[subsets[s, i], 0], d * sizeof(double))
                totals[s] = crispyx_pair_distances(&scratch[t, 0, 0], size, d // LANES)
