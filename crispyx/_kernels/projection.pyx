"""Products of a sparse matrix X (cells x genes), centered without touching its zeros, with few vectors.

Cells are reduced in stripes of ``STRIPE`` rows at absolute positions: each stripe is summed by one
thread from zero, and stripes are added in order. Sums therefore do not depend on the number of
threads, nor on how many stripes a block holds. Threads wait for each other only once all slots of
the scratch are full: on a busy machine, waiting would cost more than the work.
"""

from libc.string cimport memset
from cython.parallel cimport prange

ctypedef long long int64

ctypedef fused value_t:
    float
    double

cdef extern from "projection.h" nogil:
    void crispyx_row_product_float(
        const float*, const int*, int64, const double*, const double*, double*)
    void crispyx_row_product_double(
        const double*, const int*, int64, const double*, const double*, double*)
    void crispyx_stripe_product_float(
        const float*, const int*, const int64*, int64, const double*, const double*, double*)
    void crispyx_stripe_product_double(
        const double*, const int*, const int64*, int64, const double*, const double*, double*)

cdef enum:
    WIDTH = 8  # lanes of projection.h
    ROWS = 1024

BLOCK_WIDTH = WIDTH
STRIPE = ROWS


def add_column_moments(
    const value_t[::1] values,  # IN (nnz,)
    const int[::1] genes,       # IN (nnz,)
    double[::1] sums,           # IN OUT (n_genes,)
    double[::1] squares,        # IN OUT (n_genes,)
):
    """Add the values of a block of rows, and their squares, to the totals of the genes."""
    cdef Py_ssize_t j
    cdef double x
    with nogil:
        for j in range(values.shape[0]):
            x = values[j]
            sums[genes[j]] += x
            squares[genes[j]] += x * x


def add_gram_products(
    const value_t[::1] values,    # IN (nnz,)
    const int[::1] genes,         # IN (nnz,)
    const int64[::1] ptr,         # IN (n_rows + 1,), row 0 at the start of a stripe
    const double[:, ::1] vectors,  # IN (n_genes, WIDTH)
    const double[::1] shift,      # IN (WIDTH,), means of the genes times the vectors
    double[:, :, ::1] scratch,    # SCRATCH (n_slots, n_genes, WIDTH), a stripe each
    double[:, ::1] out,           # IN OUT (n_genes, WIDTH)
    int n_threads,
):
    """Add X^T (X - mean) V of a block of rows."""
    cdef Py_ssize_t n_rows = ptr.shape[0] - 1, n_genes = vectors.shape[0]
    cdef Py_ssize_t n_stripes = (n_rows + ROWS - 1) // ROWS
    cdef Py_ssize_t n_slots = scratch.shape[0]
    cdef Py_ssize_t k, first, s, t, g, c, n_here
    cdef const value_t* value = &values[0] if values.shape[0] > 0 else NULL
    cdef const int* gene = &genes[0] if genes.shape[0] > 0 else NULL
    with nogil:
        for k in range((n_stripes + n_slots - 1) // n_slots):
            first = k * n_slots
            n_here = min(n_slots, n_stripes - first)
            for t in prange(n_here, schedule="dynamic", num_threads=n_threads):
                s = (first + t) * ROWS
                memset(&scratch[t, 0, 0], 0, n_genes * WIDTH * sizeof(double))
                if value_t is float:
                    crispyx_stripe_product_float(
                        value, gene, &ptr[s], min(<Py_ssize_t> ROWS, n_rows - s), &vectors[0, 0],
                        &shift[0], &scratch[t, 0, 0],
                    )
                else:
                    crispyx_stripe_product_double(
                        value, gene, &ptr[s], min(<Py_ssize_t> ROWS, n_rows - s), &vectors[0, 0],
                        &shift[0], &scratch[t, 0, 0],
                    )
            for g in prange(n_genes, schedule="static", num_threads=n_threads):
                for t in range(n_here):
                    for c in range(WIDTH):
                        out[g, c] += scratch[t, g, c]


def row_products(
    const value_t[::1] values,    # IN (nnz,)
    const int[::1] genes,         # IN (nnz,)
    const int64[::1] ptr,         # IN (n_rows + 1,)
    const double[:, ::1] vectors,  # IN (n_genes, WIDTH)
    const double[::1] shift,      # IN (WIDTH,)
    double[:, ::1] out,           # OUT (n_rows, WIDTH)
    int n_threads,
):
    """Write (X - mean) V of a block of rows."""
    cdef Py_ssize_t i
    cdef const value_t* value = &values[0] if values.shape[0] > 0 else NULL
    cdef const int* gene = &genes[0] if genes.shape[0] > 0 else NULL
    with nogil:
        for i in prange(out.shape[0], schedule="static", num_threads=n_threads):
            if value_t is float:
                crispyx_row_product_float(
                    value + ptr[i], gene + ptr[i], ptr[i + 1] - ptr[i], &vectors[0, 0], &shift[0],
                    &out[i, 0],
                )
            else:
                crispyx_row_product_double(
                    value + ptr[i], gene + ptr[i], ptr[i + 1] - ptr[i], &vectors[0, 0], &shift[0],
                    &out[i, 0],
                )


def add_gram(
    const value_t[::1] values,  # IN (nnz,)
    const int[::1] genes,       # IN (nnz,), rising within a row
    const int64[::1] ptr,       # IN (n_rows + 1,)
    int first,                  # IN gene of the first row of out
    double[:, ::1] out,         # IN OUT (n_rows, n_genes), the upper triangle
    int n_threads,
):
    """Add some rows of X^T X of a block of rows; every entry is summed in the order of the cells."""
    cdef Py_ssize_t t, i, j, k
    cdef int stop = first + <int> out.shape[0]
    cdef double x
    cdef double* row
    with nogil:
        for t in prange(n_threads, schedule="static", num_threads=n_threads):
            for i in range(ptr.shape[0] - 1):
                for j in range(ptr[i], ptr[i + 1]):
                    if genes[j] >= stop:
                        break
                    if genes[j] < first or genes[j] % n_threads != t:
                        continue
                    x = values[j]
                    row = &out[genes[j] - first, 0]
                    for k in range(j, ptr[i + 1]):
                        row[genes[k]] += x * values[k]
