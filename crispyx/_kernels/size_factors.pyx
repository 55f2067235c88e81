"""Log sums of genes and medians of cells, for size factors by ratios."""

from libc.math cimport NAN, exp, isnan, log
from cython.parallel cimport prange, threadid

ctypedef long long int64

cdef enum:
    N_LOGS = 256

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
    cdef double logs[N_LOGS]
    fill_logs(logs)
    with nogil:
        for i in range(values.shape[0]):
            if values[i] > 0:
                g = genes[i]
                log_sums[g] += log_of(values[i], logs)
                totals[g] += values[i]
                n_expressing[g] += 1


def median_ratios(
    const value_t[::1] values,    # IN (nnz,), cell after cell
    const int[::1] genes,         # IN (nnz,)
    const int64[::1] ptr,         # IN (n_cells + 1,)
    const double[::1] log_mean,   # IN (n_genes,), NaN leaves a gene out
    double[:, ::1] scratch,       # SCRATCH (n_threads, longest cell)
    double[::1] size_factors,     # OUT (n_cells,), NaN without a usable gene
    int n_threads,
):
    """Fill the exponential of the median of log y - log_mean over the counts above 0."""
    cdef Py_ssize_t cell
    cdef int t
    cdef double logs[N_LOGS]
    cdef const value_t* first_value = &values[0] if values.shape[0] > 0 else NULL
    cdef const int* first_gene = &genes[0] if genes.shape[0] > 0 else NULL
    fill_logs(logs)
    with nogil:
        for cell in prange(ptr.shape[0] - 1, schedule="dynamic", num_threads=n_threads):
            t = threadid()
            size_factors[cell] = median_ratio(
                first_value + ptr[cell], first_gene + ptr[cell], ptr[cell + 1] - ptr[cell],
                &log_mean[0], logs, &scratch[t, 0],
            )


cdef double median_ratio(const value_t* y, const int* genes, Py_ssize_t n, const double* log_mean,
                         const double* logs, double* ratios) noexcept nogil:
    cdef Py_ssize_t i, kept = 0
    cdef double upper, lower
    for i in range(n):
        if y[i] > 0 and not isnan(log_mean[genes[i]]):
            ratios[kept] = log_of(y[i], logs) - log_mean[genes[i]]
            kept += 1
    if kept == 0:
        return NAN
    upper = smallest(ratios, kept, kept // 2)
    lower = upper
    if kept % 2 == 0:
        lower = ratios[0]
        for i in range(1, kept // 2):
            lower = max(lower, ratios[i])
    return exp((lower + upper) / 2)


cdef void fill_logs(double* logs) noexcept nogil:
    cdef Py_ssize_t i
    logs[0] = 0
    for i in range(1, N_LOGS):
        logs[i] = log(<double> i)


cdef inline double log_of(double y, const double* logs) noexcept nogil:
    # Most counts are small, and their logs known.
    if y < N_LOGS and y == <int> y:
        return logs[<int> y]
    return log(y)


cdef double smallest(double* a, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """Return the k-th smallest number, counted from 0; those before it come to stand before it.

    Hoare's selection with the middle of three as pivot.
    """
    cdef Py_ssize_t low = 0, high = n - 1, i, j, middle
    cdef double pivot
    while low < high:
        middle = (low + high) // 2
        if a[middle] < a[low]:
            swap(a, low, middle)
        if a[high] < a[low]:
            swap(a, low, high)
        if a[high] < a[middle]:
            swap(a, middle, high)
        pivot = a[middle]
        i, j = low, high
        while i <= j:
            while a[i] < pivot:
                i += 1
            while a[j] > pivot:
                j -= 1
            if i <= j:
                swap(a, i, j)
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return a[k]


cdef inline void swap(double* a, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    cdef double held = a[i]
    a[i] = a[j]
    a[j] = held


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
