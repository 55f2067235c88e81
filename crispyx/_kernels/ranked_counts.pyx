"""Counts of each gene sorted by group, each with the rank of its cell by size factor."""

from cython.parallel cimport prange, threadid

ctypedef long long int64

ctypedef fused value_t:
    float
    double


def fill_ranked_runs(
    const value_t[::1] values,     # IN (nnz,)
    const int[::1] cells,          # IN (nnz,)
    const int64[::1] ptr,          # IN (n_genes + 1,)
    const int[::1] member_ptr,     # IN (n_cells + 1,)
    const int[::1] member_groups,  # IN (n_memberships,)
    const int[::1] member_ranks,   # IN (n_memberships,)
    const int64[:, ::1] run_ptr,   # IN (n_genes, n_groups + 1), absolute
    int64[:, ::1] cursor,          # SCRATCH (n_threads, n_groups)
    value_t[::1] out_values,       # OUT (run_ptr[-1, -1],)
    int[::1] out_ranks,            # OUT (run_ptr[-1, -1],)
    int n_threads,
):
    """Copy every count and the rank of its cell; within a run counts keep the order of the cells."""
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
                    k = member_groups[m]
                    slot = cursor[t, k]
                    cursor[t, k] = slot + 1
                    out_values[slot] = values[j]
                    out_ranks[slot] = member_ranks[m]


def fill_pair_runs(
    const value_t[::1] values,     # IN (nnz,)
    const int[::1] ranks,          # IN (nnz,)
    const int64[:, ::1] run_ptr,   # IN (n_genes, n_groups + 1)
    int64 group,
    const int[::1] new_ranks,      # IN (n_control + n_perturbed,), by group and rank
    int64 n_control,
    const int64[:, ::1] pair_ptr,  # IN (n_genes, 3), absolute
    value_t[::1] out_values,       # OUT (pair_ptr[-1, -1],)
    int[::1] out_ranks,            # OUT (pair_ptr[-1, -1],)
    int n_threads,
):
    """Copy the counts of group 0 and of one other group, ranked anew."""
    cdef Py_ssize_t g, j, slot
    with nogil:
        for g in prange(run_ptr.shape[0], schedule="static", num_threads=n_threads):
            slot = pair_ptr[g, 0]
            for j in range(run_ptr[g, 0], run_ptr[g, 1]):
                out_values[slot] = values[j]
                out_ranks[slot] = new_ranks[ranks[j]]
                slot = slot + 1
            for j in range(run_ptr[g, group], run_ptr[g, group + 1]):
                out_values[slot] = values[j]
                out_ranks[slot] = new_ranks[n_control + ranks[j]]
                slot = slot + 1
