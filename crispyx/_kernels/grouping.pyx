"""Sort the non-zeros of each gene by group: the layout ``GroupedGenes``."""

from libc.math cimport log1p
from cython.parallel cimport prange, threadid

ctypedef long long int64

ctypedef unsigned short uint16
ctypedef unsigned long long uint64

ctypedef fused value_t:
    float
    double

ctypedef fused out_t:
    float
    double

ctypedef fused major_t:
    uint16
    int


def group_pieces(
    const uint64[::1] values,       # IN (n_pieces,) addresses of the values of each piece
    const uint64[::1] cells,        # IN (n_pieces,) addresses of their cells, see major_kind
    const int64[:, ::1] ptr,        # IN (n_pieces, n_genes + 1) in the arrays of each piece
    const int64[::1] first_cell,    # IN (n_pieces,)
    const int[::1] group_of_cell,   # IN (n_cells,), -1 for cells to leave out
    int64[:, ::1] run_ptr,          # OUT (n_genes, n_groups + 1), absolute
    const double[::1] sizes,        # IN (n_cells,) library sizes, or (0,) for values as they are
    double target_sum,
    out_t[::1] out_values,          # OUT (all values of the pieces,), with gaps between genes
    const value_t[::1] value_kind,  # IN (0,), of the type of the values
    const major_t[::1] major_kind,  # IN (0,), of the type of the cells
    int n_threads,
):
    """Sort the values of each gene by group, zeros left out; within a group cells keep their order.

    With library sizes, ``log1p(value * target_sum / size)`` is sorted.
    """
    cdef Py_ssize_t g, p
    cdef int64 at
    cdef const value_t** value_of = <const value_t**> &values[0]
    cdef const major_t** cell_of = <const major_t**> &cells[0]
    cdef const double* size_of = &sizes[0] if sizes.shape[0] else NULL
    with nogil:
        at = 0
        for g in range(run_ptr.shape[0]):
            run_ptr[g, 0] = at
            for p in range(ptr.shape[0]):
                at += ptr[p, g + 1] - ptr[p, g]
        for g in prange(run_ptr.shape[0], schedule="dynamic", num_threads=n_threads):
            group_gene(
                value_of, cell_of, &ptr[0, g], ptr.shape[0], ptr.shape[1], &first_cell[0],
                &group_of_cell[0], size_of, target_sum, &run_ptr[g, 0], run_ptr.shape[1] - 1,
                &out_values[0],
            )


cdef void group_gene(
    const value_t** values, const major_t** cells, const int64* ptr, Py_ssize_t n_pieces,
    Py_ssize_t stride, const int64* first_cell, const int* group_of_cell,
    const double* sizes, double target_sum, int64* runs, Py_ssize_t n_groups, out_t* out,
) noexcept nogil:
    """Counting sort; ``runs[k + 1]`` counts group k, then walks from its start to its end."""
    cdef Py_ssize_t p, j
    cdef const int* group
    cdef const double* size = NULL
    cdef const value_t* value
    cdef const major_t* cell
    cdef int k
    cdef int64 slot, at = runs[0]
    for j in range(1, n_groups + 1):
        runs[j] = 0
    for p in range(n_pieces):
        group = group_of_cell + first_cell[p]
        value = values[p]
        cell = cells[p]
        for j in range(ptr[p * stride], ptr[p * stride + 1]):
            k = group[cell[j]]
            if k >= 0:
                runs[k + 1] += value[j] != 0
    for j in range(1, n_groups + 1):
        slot = runs[j]
        runs[j] = at
        at += slot
    for p in range(n_pieces):
        group = group_of_cell + first_cell[p]
        if sizes != NULL:
            size = sizes + first_cell[p]
        value = values[p]
        cell = cells[p]
        for j in range(ptr[p * stride], ptr[p * stride + 1]):
            k = group[cell[j]]
            if k >= 0 and value[j] != 0:
                slot = runs[k + 1]
                runs[k + 1] = slot + 1
                if sizes != NULL:
                    out[slot] = <out_t> log1p(value[j] * target_sum / size[cell[j]])
                else:
                    out[slot] = <out_t> value[j]


def count_runs(
    const int[::1] cells,          # IN (nnz,)
    const int64[::1] ptr,          # IN (n_genes + 1,)
    const int[::1] member_ptr,     # IN (n_cells + 1,)
    const int[::1] member_groups,  # IN (n_memberships,)
    int64[:, ::1] run_ptr,         # OUT (n_genes, n_groups + 1), each row from 0
    int n_threads,
):
    """Count the non-zeros of every (gene, group) and turn the counts into pointers within the gene."""
    cdef Py_ssize_t g, j, m, k
    cdef Py_ssize_t n_groups = run_ptr.shape[1] - 1
    with nogil:
        for g in prange(run_ptr.shape[0], schedule="dynamic", num_threads=n_threads):
            for k in range(n_groups + 1):
                run_ptr[g, k] = 0
            for j in range(ptr[g], ptr[g + 1]):
                for m in range(member_ptr[cells[j]], member_ptr[cells[j] + 1]):
                    run_ptr[g, member_groups[m] + 1] += 1
            for k in range(n_groups):
                run_ptr[g, k + 1] += run_ptr[g, k]


def fill_runs(
    const value_t[::1] values,     # IN (nnz,)
    const int[::1] cells,          # IN (nnz,)
    const int64[::1] ptr,          # IN (n_genes + 1,)
    const int[::1] member_ptr,     # IN (n_cells + 1,)
    const int[::1] member_groups,  # IN (n_memberships,)
    const int64[:, ::1] run_ptr,   # IN (n_genes, n_groups + 1), absolute
    int64[:, ::1] cursor,          # SCRATCH (n_threads, n_groups)
    value_t[::1] out_values,       # OUT (run_ptr[-1, -1],)
    int n_threads,
):
    """Copy every value to its run; within a run values keep the order of the cells."""
    cdef Py_ssize_t g, j, m, k, slot
    cdef int t
    cdef Py_ssize_t n_groups = run_ptr.shape[1] - 1
    with nogil:
        for g in prange(run_ptr.shape[0], schedule="dynamic", num_threads=n_threads):
            t = threadid()
            for k in range(n_groups):
                cursor[t, k] = run_ptr[g, k]
            for j in range(ptr[g], ptr[g + 1]):
                for m in range(member_ptr[cells[j]], member_ptr[cells[j] + 1]):
                    slot = cursor[t, member_groups[m]]
                    cursor[t, member_groups[m]] = slot + 1
                    out_values[slot] = values[j]
