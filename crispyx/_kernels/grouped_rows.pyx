"""Genes sorted by group, taken from the rows of a CSR matrix where they lie.

Rows are visited group after group, each from where the block of genes before ended. Nothing but the
values of the block is copied, and each group is one thread's. The rows may be those of a mapped
file, which another program can change at any moment: a number read from it is checked before it
becomes a place in memory.
"""

from libc.math cimport log1p
from libc.string cimport memset
from cython.parallel cimport prange

ctypedef long long int64

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define crispyx_prefetch(address) __builtin_prefetch(address)
    #else
    #define crispyx_prefetch(address)
    #endif
    """
    void prefetch "crispyx_prefetch"(const void* address) nogil

cdef enum:
    AHEAD = 8       # rows between the one that is read and the one that is fetched
    TOGETHER = 8    # genes whose places are summed side by side: a line of the cache

ctypedef fused value_t:
    float
    double

ctypedef fused out_t:
    float
    double

ctypedef fused index_t:
    int
    int64


def count_genes(
    const value_t[::1] values,   # IN (nnz,)
    const index_t[::1] genes,    # IN (nnz,)
    const int64[::1] ptr,        # IN (n_cells + 1,)
    const int[::1] cells,        # IN (n_used,), group after group
    const int64[::1] group_ptr,  # IN (n_groups + 1,) in cells
    bint stored_zeros,           # values have to be looked at
    int[:, ::1] counts,          # OUT (n_groups, all genes), values of each
    int n_threads,
):
    """Count the values of every (group, gene) of the matrix."""
    cdef Py_ssize_t k, i
    cdef int64 j
    cdef index_t g, n_genes = <index_t> counts.shape[1]
    with nogil:
        for k in prange(counts.shape[0], schedule="dynamic", num_threads=n_threads):
            memset(&counts[k, 0], 0, counts.shape[1] * sizeof(int))
            for i in range(group_ptr[k], group_ptr[k + 1]):
                for j in range(ptr[cells[i]], ptr[cells[i] + 1]):
                    g = genes[j]
                    if g < 0 or g >= n_genes:
                        continue
                    counts[k, g] += not stored_zeros or values[j] != 0


def place_runs(
    const int[:, ::1] counts,  # IN (n_groups, all genes)
    int64 start,               # first gene of the block
    int64[:, ::1] places,      # OUT (n_groups, n_genes), where the values of each start
    int64[:, ::1] run_ptr,     # OUT (n_genes, n_groups + 1), absolute
    int n_threads,
):
    """Give every (gene, group) of a block its run, gene after gene."""
    cdef Py_ssize_t g, k, b
    cdef Py_ssize_t n_groups = places.shape[0], n_genes = places.shape[1]
    cdef int64 at
    with nogil:
        for g in range(n_genes):
            run_ptr[g, n_groups] = 0
        for k in range(n_groups):
            for g in range(n_genes):
                run_ptr[g, n_groups] += counts[k, start + g]
        at = 0
        for g in range(n_genes):
            run_ptr[g, 0] = at
            at += run_ptr[g, n_groups]
        for b in prange((n_genes + TOGETHER - 1) // TOGETHER, num_threads=n_threads):
            for k in range(n_groups):
                for g in range(b * TOGETHER, min(b * TOGETHER + TOGETHER, n_genes)):
                    places[k, g] = run_ptr[g, k]
                    run_ptr[g, k + 1] = run_ptr[g, k] + counts[k, start + g]


def fill_runs(
    const value_t[::1] values,   # IN (nnz,)
    const index_t[::1] genes,    # IN (nnz,), rising within a row
    const int64[::1] ptr,        # IN (n_cells + 1,)
    const int[::1] cells,        # IN (n_used,), group after group
    const int64[::1] group_ptr,  # IN (n_groups + 1,)
    int64 start,                 # first gene of the block
    bint stored_zeros,
    int64[::1] begin,            # IN OUT (n_used,), a place in the row up to gene start, then stop
    int64[:, ::1] places,        # IN OUT (n_groups, n_genes), starts of the runs, then their ends
    const double[::1] sizes,     # IN (n_cells,) library sizes, or (0,) for values as they are
    double target_sum,
    out_t[::1] out_values,       # OUT (values of the block,)
    int n_threads,
):
    """Copy every value to its run; within a run values keep the order of the cells.

    With library sizes, ``log1p(value * target_sum / size)`` is copied.
    """
    cdef Py_ssize_t k, i
    cdef bint logs = sizes.shape[0] > 0
    cdef int64 j, last, slot, n_out = out_values.shape[0]
    cdef index_t g, first = <index_t> start, stop = <index_t> (start + places.shape[1])
    with nogil:
        for k in prange(places.shape[0], schedule="dynamic", num_threads=n_threads):
            for i in range(group_ptr[k], group_ptr[k + 1]):
                if i + AHEAD < group_ptr[k + 1]:
                    prefetch(&genes[0] + begin[i + AHEAD])
                    prefetch(&values[0] + begin[i + AHEAD])
                j = begin[i]
                last = ptr[cells[i] + 1]
                while j < last and genes[j] < first:
                    j = j + 1
                while j < last:
                    g = genes[j]
                    if g >= stop:
                        break
                    if g >= first and (not stored_zeros or values[j] != 0):
                        slot = places[k, g - first]
                        if slot < n_out:
                            places[k, g - first] = slot + 1
                            if logs:
                                out_values[slot] = <out_t> log1p(
                                    values[j] * target_sum / sizes[cells[i]]
                                )
                            else:
                                out_values[slot] = <out_t> values[j]
                    j = j + 1
                begin[i] = j
