"""Benjamini and Hochberg's step-up over rows whose order is known."""

from libc.math cimport NAN
from cython.parallel cimport prange

ctypedef long long int64


def step_up(
    const double[:, ::1] pvalues,  # IN (n_rows, n_tests), NaN is no test
    const int64[:, ::1] order,     # IN idem, tests of each row by rising p, NaN last
    double[:, ::1] adjusted,       # OUT idem
    int n_threads,
):
    """Fill ``min over j >= i of p(j) n / j``, at most 1; NaN stays NaN."""
    cdef Py_ssize_t row, i, n
    cdef double smallest, scaled
    with nogil:
        for row in prange(pvalues.shape[0], schedule="static", num_threads=n_threads):
            n = pvalues.shape[1]
            while n > 0 and pvalues[row, order[row, n - 1]] != pvalues[row, order[row, n - 1]]:
                n = n - 1
                adjusted[row, order[row, n]] = NAN
            smallest = 1
            for i in range(n - 1, -1, -1):
                scaled = pvalues[row, order[row, i]] * (<double> n / <double> (i + 1))
                smallest = scaled if scaled < smallest else smallest
                adjusted[row, order[row, i]] = smallest
