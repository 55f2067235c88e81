"""Genes sorted by group, taken from the rows of a CSR matrix where they lie.

Rows are visited group after group, each from where the block of genes before ended. Nothing but the
values of the block is copied, and each group is one thread's: its row of ``places`` counts its
values of every gene and then says where the next one goes.
"""

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

ctypedef fused index_t:
    int
    int64


def count_places(
    const value_t[::1] values,   # IN (nnz,)
    const index_t[::1] genes,    # IN (nnz,), rising within a row
    const int64[::1] ptr,        # IN (n_cells + 1,)
    const int[::1] cells,        # IN (n_used,), group after group
    const int64[::1] group_ptr,  # IN (n_groups + 1,) in cells
    int64 start,                 # first gene of the block
    bint stored_zeros,           # values have to be looked at
    int64[::1] begin,            # IN OUT (n_used,), a place in the row at or before gene start
    int64[::1] end,              # OUT (n_used,), where the row leaves the block
    int64[:, ::1] places,        # OUT (n_groups, n_genes), values of each
    int n_threads,
):
    """Count the values of every (group, gene) of a block."""
    cdef Py_ssize_t k, g, i
    cdef int64 j, last
    cdef index_t first = <index_t> start, stop = <index_t> (start + places.shape[1])
    with nogil:
        for k in prange(places.shape[0], schedule="dynamic", num_threads=n_threads):
            for g in range(places.shape[1]):
                places[k, g] = 0
            for i in range(group_ptr[k], group_ptr[k + 1]):
                if i + AHEAD < group_ptr[k + 1]:
                    prefetch(&genes[0] + begin[i + AHEAD])
                j = begin[i]
                last = ptr[cells[i] + 1]
                while j < last and genes[j] < first:
                    j = j + 1
                begin[i] = j
                if stored_zeros:
                    while j < last and genes[j] < stop:
                        places[k, genes[j] - first] += values[j] != 0
                        j = j + 1
                else:
                    while j < last and genes[j] < stop:
                        places[k, genes[j] - first] += 1
                        j = j + 1
                end[i] = j


def place_runs(
    int64[:, ::1] places,   # IN OUT (n_groups, n_genes), numbers of values in, first places out
    int64[:, ::1] run_ptr,  # OUT (n_genes, n_groups + 1), absolute
    int n_threads,
):
    """Give every (gene, group) its run, gene after gene."""
    cdef Py_ssize_t g, k, b
    cdef Py_ssize_t n_groups = places.shape[0], n_genes = places.shape[1]
    cdef int64 at, n
    with nogil:
        for g in range(n_genes):
            run_ptr[g, n_groups] = 0
        for k in range(n_groups):
            for g in range(n_genes):
                run_ptr[g, n_groups] += places[k, g]
        at = 0
        for g in range(n_genes):
            run_ptr[g, 0] = at
            at += run_ptr[g, n_groups]
        for b in prange((n_genes + TOGETHER - 1) // TOGETHER, num_threads=n_threads):
            for k in range(n_groups):
                for g in range(b * TOGETHER, min(b * TOGETHER + TOGETHER, n_genes)):
                    n = places[k, g]
                    places[k, g] = run_ptr[g, k]
                    run_ptr[g, k + 1] = run_ptr[g, k] + n


def fill_places(
    const value_t[::1] values,   # IN (nnz,)
    const index_t[::1] genes,    # IN (nnz,)
    const int64[::1] group_ptr,  # IN (n_groups + 1,)
    int64 start,                 # first gene of the block
    bint stored_zeros,
    int64[::1] begin,            # IN OUT (n_used,), where each row enters the block, then end
    const int64[::1] end,        # IN (n_used,)
    int64[:, ::1] places,        # IN OUT (n_groups, n_genes), first places, then the ends
    value_t[::1] out_values,     # OUT (values of the block,)
    int n_threads,
):
    """Copy every value to its run; within a run values keep the order of the cells."""
    cdef Py_ssize_t k, i
    cdef int64 j, g
    with nogil:
        for k in prange(places.shape[0], schedule="dynamic", num_threads=n_threads):
            for i in range(group_ptr[k], group_ptr[k + 1]):
                if i + AHEAD < group_ptr[k + 1]:
                    prefetch(&genes[0] + begin[i + AHEAD])
                    prefetch(&values[0] + begin[i + AHEAD])
                for j in range(begin[i], end[i]):
                    if not stored_zeros or values[j] != 0:
                        g = genes[j] - start
                        out_values[places[k, g]] = values[j]
                        places[k, g] += 1
                begin[i] = end[i]
