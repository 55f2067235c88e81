"""Sums over the cells of every (group, gene), straight from the stored axis of a matrix.

Every sum takes its values in the order of the cells, whichever axis is stored and however many
threads run: a thread owns groups (of cells stored one after the other) or genes.
"""

from libc.math cimport log1p
from cython.parallel cimport prange

ctypedef long long int64

ctypedef fused value_t:
    float
    double

ctypedef fused total_t:
    int64
    double


def add_cells(
    const value_t[::1] values,     # IN (nnz,)
    const int[::1] genes,          # IN (nnz,), increasing within a cell
    const int64[::1] ptr,          # IN (n_cells + 1,)
    const int[::1] cells,          # IN (n_memberships,), cells of the block, group after group
    const int[::1] times,          # IN idem, how often the cell counts
    const int[::1] groups,         # IN (n_present,), groups that cells of the block belong to
    const int64[::1] group_ptr,    # IN (n_present + 1,), where the cells of each begin
    const double[::1] sizes,       # IN (n_cells,), above 0 where a cell has values
    double target_sum,
    bint take_log1p,
    int first_gene,
    total_t[:, ::1] totals,        # IN OUT (n_groups, n_genes), genes from first_gene on
    int n_threads,
):
    """Add a block of cells: ``values * target_sum / sizes[cell]``, its log1p when asked for."""
    cdef Py_ssize_t p, m, j, low, high, middle, k, i
    cdef int stop = first_gene + <int> totals.shape[1]
    cdef double v
    with nogil:
        for p in prange(groups.shape[0], schedule="dynamic", num_threads=n_threads):
            k = groups[p]
            for m in range(group_ptr[p], group_ptr[p + 1]):
                i = cells[m]
                low = ptr[i]
                high = ptr[i + 1]
                if first_gene > 0:
                    while low < high:
                        middle = (low + high) // 2
                        if genes[middle] < first_gene:
                            low = middle + 1
                        else:
                            high = middle
                for j in range(low, ptr[i + 1]):
                    if genes[j] >= stop:
                        break
                    if values[j] == 0:
                        continue
                    v = <double> values[j] * target_sum / sizes[i]
                    if take_log1p:
                        v = log1p(v)
                    totals[k, genes[j] - first_gene] += times[m] * <total_t> v


def add_genes(
    const value_t[::1] values,       # IN (nnz,)
    const int[::1] cells,            # IN (nnz,)
    const int64[::1] ptr,            # IN (n_genes + 1,)
    const int[::1] member_ptr,       # IN (n_cells + 1,)
    const int[::1] member_groups,    # IN (n_memberships,)
    const int[::1] member_times,     # IN idem, how often the cell counts
    const double[::1] sizes,         # IN (n_cells,), above 0 where a cell has values
    double target_sum,
    bint take_log1p,
    total_t[:, ::1] totals,          # IN OUT (n_genes, n_groups)
    int n_threads,
):
    """Add a block of genes, as :func:`add_cells` adds cells."""
    cdef Py_ssize_t g, j, m, i
    cdef double v
    with nogil:
        for g in prange(totals.shape[0], schedule="dynamic", num_threads=n_threads):
            for j in range(ptr[g], ptr[g + 1]):
                i = cells[j]
                if values[j] == 0 or member_ptr[i] == member_ptr[i + 1]:
                    continue
                v = <double> values[j] * target_sum / sizes[i]
                if take_log1p:
                    v = log1p(v)
                for m in range(member_ptr[i], member_ptr[i + 1]):
                    totals[g, member_groups[m]] += member_times[m] * <total_t> v
