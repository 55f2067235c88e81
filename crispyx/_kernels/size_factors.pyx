"""Log sums of genes and medians of cells, for size factors by ratios."""

from libc.math cimport INFINITY, NAN, exp, isnan, log
from cython.parallel cimport prange, threadid

ctypedef long long int64

cdef enum:
    N_LOGS = 256

cdef double NEAR = 0.05  # natural log; how far a median may be from its guess

ctypedef fused value_t:
    float
    double


cdef struct Ratios:
    Py_ssize_t usable
    Py_ssize_t below
    Py_ssize_t between


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
    double[::1] size_factors,     # IN OUT (n_cells,), a guess or NaN; NaN without a usable gene
    int n_threads,
):
    """Fill the exponential of the median of log y - log_mean over the counts above 0.

    A guess saves time and changes no number.
    """
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
                &log_mean[0], logs, log(size_factors[cell]), &scratch[t, 0],
            )


cdef double median_ratio(const value_t* y, const int* genes, Py_ssize_t n, const double* log_mean,
                         const double* logs, double guess, double* ratios) noexcept nogil:
    cdef Py_ssize_t i, place
    cdef double upper, lower
    cdef Ratios found
    if not isnan(guess):
        found = ratios_between(y, genes, n, log_mean, logs, guess - NEAR, guess + NEAR, ratios)
    if isnan(guess) or not (
        found.below <= (found.usable - 1) // 2 and found.usable // 2 < found.below + found.between
    ):
        found = ratios_between(y, genes, n, log_mean, logs, -INFINITY, INFINITY, ratios)
    if found.usable == 0:
        return NAN
    place = found.usable // 2 - found.below
    upper = smallest(ratios, found.between, place)
    lower = upper
    if found.usable % 2 == 0:
        lower = ratios[0]
        for i in range(1, place):
            lower = max(lower, ratios[i])
    return exp((lower + upper) / 2)


cdef Ratios ratios_between(
    const value_t* y, const int* genes, Py_ssize_t n, const double* log_mean, const double* logs,
    double low, double high, double* ratios,
) noexcept nogil:
    """Keep the ratios of usable counts between two bounds; what is left out is overwritten."""
    cdef Ratios found
    cdef Py_ssize_t i
    cdef double ratio
    cdef bint usable
    found.usable = found.below = found.between = 0
    for i in range(n):
        ratio = log_of(y[i], logs) - log_mean[genes[i]]
        usable = (y[i] > 0) & (ratio == ratio)
        found.usable += usable
        found.below += usable & (ratio < low)
        ratios[found.between] = ratio
        found.between += usable & (ratio >= low) & (ratio <= high)
    return found


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
