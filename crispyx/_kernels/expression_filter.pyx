"""Which (group, gene) pairs are expressed enough to be tested."""

from cython.parallel cimport prange

ctypedef long long int64

cdef enum:
    ROWS = 16  # taken at a time: other threads need the cores as well


def tested_pairs(
    const int64[:, ::1] expressing0,  # IN (n_groups, n_genes), or (1, n_genes) of a shared control
    const double[:, ::1] mean0,       # IN idem
    const int64[::1] n0,              # IN (n_groups,) or (1,), cells of the control
    const int64[:, ::1] expressing1,  # IN (n_groups, n_genes), cells of the group with value > 0
    const double[:, ::1] mean1,       # IN idem
    const int64[::1] n1,              # IN (n_groups,), cells of the group
    double min_pct0,
    double min_pct1,
    double min_mean0,
    double min_mean1,
    unsigned char[:, ::1] tested,     # OUT (n_groups, n_genes)
    int n_threads,
):
    """Fill 0 where both sides have a low fraction of expressing cells and a low mean, else 1."""
    cdef Py_ssize_t k, c, g
    with nogil:
        for k in prange(mean1.shape[0], schedule="dynamic", chunksize=ROWS, num_threads=n_threads):
            c = k if mean0.shape[0] > 1 else 0
            for g in range(mean1.shape[1]):
                tested[k, g] = not (
                    is_low(expressing0[c, g], n0[c], mean0[c, g], min_pct0, min_mean0)
                    and is_low(expressing1[k, g], n1[k], mean1[k, g], min_pct1, min_mean1)
                )


cdef inline bint is_low(
    int64 n_expressing, int64 n_cells, double mean, double min_pct, double min_mean
) noexcept nogil:
    # An arm without cells has no fraction that could be low.
    return (
        mean < min_mean and n_cells > 0 and <double> n_expressing / <double> n_cells < min_pct
    )
