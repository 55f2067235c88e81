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

cdef extern from "prefetch.h" nogil:
    void prefetch "crispyx_prefetch"(const void* address)

cdef enum:
    AHEAD = 8       # rows between the one that is read and the one that is fetched
    TOGETHER = 8    # genes whose places are summed side by side: a line of the cache
    GROUPS_TOGETHER = 16

ctypedef fused value_t:
    float
    double

ctypedef fused out_t:
    float
    double

ctypedef fused index_t:
    unsigned short
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
                    if 0 <= g < n_genes:
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
    cdef Py_ssize_t k
    cdef Py_ssize_t n_groups = places.shape[0]
    cdef const double* size_of = &sizes[0] if sizes.shape[0] > 0 else NULL
    # Runs of neighboring groups share lines of the cache: one thread takes several groups.
    cdef int together = <int> max(1, min(GROUPS_TOGETHER, n_groups // (8 * n_threads)))
    if values.shape[0] == 0 or cells.shape[0] == 0:
        return
    with nogil:
        for k in prange(n_groups, schedule="dynamic", chunksize=together, num_threads=n_threads):
            fill_group(
                &values[0], &genes[0], &ptr[0], &cells[0], group_ptr[k], group_ptr[k + 1],
                <index_t> start, <index_t> (start + places.shape[1]), stored_zeros, &begin[0],
                &places[k, 0], size_of, target_sum, &out_values[0], out_values.shape[0],
            )


cdef void fill_group(
    const value_t* values, const index_t* genes, const int64* ptr, const int* cells,
    int64 first_cell, int64 last_cell, index_t first, index_t stop, bint stored_zeros,
    int64* begin, int64* places, const double* sizes, double target_sum, out_t* out, int64 n_out,
) noexcept nogil:
    cdef int64 i, j, last, slot
    cdef index_t g
    for i in range(first_cell, last_cell):
        if i + AHEAD < last_cell:
            prefetch(genes + begin[i + AHEAD])
            prefetch(values + begin[i + AHEAD])
        j = begin[i]
        last = ptr[cells[i] + 1]
        while j < last and genes[j] < first:
            j += 1
        while j < last:
            g = genes[j]
            if g >= stop:
                break
            if g >= first and (not stored_zeros or values[j] != 0):
                slot = places[g - first]
                if slot < n_out:
                    places[g - first] = slot + 1
                    if sizes != NULL:
                        out[slot] = <out_t> log1p(values[j] * target_sum / sizes[cells[i]])
                    else:
                        out[slot] = <out_t> values[j]
            j += 1
        begin[i] = j
