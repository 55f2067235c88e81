"""Log sums of genes and medians of cells, for size factors by ratios."""

from libc.math cimport NAN, exp, isnan, log
from cython.parallel cimport prange, threadid

from crispyx._kernels.sorting cimport sort_values

ctypedef long long int64

ctypedef fused value_t:
    float
    double


def add_gene_sums(
    const value_t[::1] values,  # IN (nnz,), cell after cell
    const int[::1] genes,       # IN (nnz,)
    double[::1] log_sums,       # IN OUT (n_genes,), logs of the counts above 0
    double[::1] totals,         # IN OUT (n_genes,)
    int64[::1] n_expressing,    # IN OUT (n_genes,)
):
    """Add cells in their order, so that the cells of a block do not matter."""
    cdef Py_ssize_t i, g
    with nogil:
        for i in range(values.shape[0]):
            if values[i] > 0:
                g = genes[i]
                log_sums[g] += log(<double> values[i])
                totals[g] += values[i]
                n_expressing[g] += 1


def median_ratios(
    const value_t[::1] values,    # IN (nnz,), cell after cell
    const int[::1] genes,         # IN (nnz,)
    const int64[::1] ptr,         # IN (n_cells + 1,)
    const double[::1] log_mean,   # IN (n_genes,), NaN leaves a gene out
    double[:, ::1] scratch,       # SCRATCH (n_threads, 2 * longest cell)
    double[::1] size_factors,     # OUT (n_cells,), NaN without a usable gene
    int n_threads,
):
    """Fill the exponential of the median of log y - log_mean over the counts above 0."""
    cdef Py_ssize_t cell
    cdef int t
    with nogil:
        for cell in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            t = threadid()
            size_factors[cell] = median_ratio(
                &values[0] + ptr[cell], &genes[0] + ptr[cell], ptr[cell + 1] - ptr[cell],
                &log_mean[0], &scratch[t, 0], &scratch[t, 0] + scratch.shape[1] // 2,
            )


cdef double median_ratio(const value_t* y, const int* genes, Py_ssize_t n, const double* log_mean,
                         double* ratios, double* sort_scratch) noexcept nogil:
    cdef Py_ssize_t i, kept = 0
    for i in range(n):
        if y[i] > 0 and not isnan(log_mean[genes[i]]):
            ratios[kept] = log(<double> y[i]) - log_mean[genes[i]]
            kept += 1
    if kept == 0:
        return NAN
    sort_values(ratios, sort_scratch, kept)
    return exp((ratios[(kept - 1) // 2] + ratios[kept // 2]) / 2)


def cell_totals(
    const value_t[::1] values,    # IN (nnz,), cell after cell
    const int[::1] genes,         # IN (nnz,)
    const int64[::1] ptr,         # IN (n_cells + 1,)
    const double[::1] log_mean,   # IN (n_genes,), NaN leaves a gene out
    double[::1] totals,           # OUT (n_cells,)
    int n_threads,
):
    """Fill the total of every cell over the genes that are not left out."""
    cdef Py_ssize_t cell, i
    cdef double total
    with nogil:
        for cell in prange(ptr.shape[0] - 1, schedule="static", num_threads=n_threads):
            total = 0
            for i in range(ptr[cell], ptr[cell + 1]):
                if not isnan(log_mean[genes[i]]):
                    total = total + values[i]
            totals[cell] = total
