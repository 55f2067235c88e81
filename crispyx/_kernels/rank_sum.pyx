"""Exact Wilcoxon rank-sum of every group against the control, in one sort of the control per gene.

With n0 control cells, of which ``z0`` are zero, and a group of ``ng`` cells, of which ``zg`` are
zero: let L(x) be the number of control values below x and E(x) the number equal to x, zeros
included. Then, all in integers,

    2 U = sum over the group's values of 2 L(x) + E(x)          (zeros: zg times the term at 0)
    T   = sum of t^3 - t over the ties of the pool
        = T_control + sum over distinct x of the group of [(E + c)^3 - (E + c)] - [E^3 - E]

with c the multiplicity of x in the group. When group 0 is the pool of all cells and the control of
a group is the pool without it, the pool takes the control's place: its ties are the ties of the test,
and the group's comparisons with itself, ng^2 in 2 U, are subtracted. Only the variance and z are floating point. The tie term
of N cells reaches N^3 and is kept in 128 bits.
"""

from libc.math cimport NAN, erfc, fabs, sqrt
from libc.string cimport memcpy
from cython.parallel cimport prange, threadid

from crispyx._kernels.sorting cimport sort_values

ctypedef long long int64

cdef extern from *:
    """
    typedef __int128 crispyx_wide;
    """
    ctypedef long long wide "crispyx_wide"

ctypedef fused value_t:
    float
    double

cdef inline wide tie_term(wide t) noexcept nogil:
    return t * t * t - t


cdef Py_ssize_t first_at_least(const value_t* distinct, Py_ssize_t low, Py_ssize_t n,
                               value_t x) noexcept nogil:
    """Return the first k >= low with distinct[k] >= x, galloping from low."""
    cdef Py_ssize_t step = 1, high = low, middle
    while high < n and distinct[high] < x:
        low = high + 1
        high += step
        step *= 2
    if high > n:
        high = n
    while low < high:
        middle = (low + high) // 2
        if distinct[middle] < x:
            low = middle + 1
        else:
            high = middle
    return low


def rank_sum(
    const value_t[::1] values,      # IN (nnz,)
    const int64[:, ::1] run_ptr,    # IN (n_genes, n_groups + 1), group 0 is the control
    const int64[::1] group_sizes,   # IN (n_groups,)
    bint tie_correct,
    bint pooled,                    # group 0 holds the other groups' cells too
    value_t[:, ::1] sorted_scratch,  # SCRATCH (n_threads, 3 * longest run)
    int64[:, ::1] count_scratch,    # SCRATCH (n_threads, longest run + 1)
    int64[:, ::1] twice_excess,     # OUT (n_groups - 1, n_genes), 2 U - n0 ng; 0 without an arm
    double[:, ::1] variance,        # OUT idem, of U; NaN where an arm is empty
    int n_threads,
):
    """Fill the integer and the variance of the test of every (group, gene)."""
    cdef Py_ssize_t g
    cdef int t
    cdef Py_ssize_t longest = sorted_scratch.shape[1] // 3
    cdef const value_t* first = &values[0] if values.shape[0] > 0 else NULL
    with nogil:
        for g in prange(run_ptr.shape[0], schedule="dynamic", num_threads=n_threads):
            t = threadid()
            rank_sum_gene(
                first, &run_ptr[g, 0], &group_sizes[0], group_sizes.shape[0], tie_correct, pooled,
                &sorted_scratch[t, 0], longest, &count_scratch[t, 0],
                &twice_excess[0, g], &variance[0, g], variance.shape[1],
            )


cdef void rank_sum_gene(
    const value_t* values, const int64* runs, const int64* sizes, Py_ssize_t n_groups,
    bint tie_correct, bint pooled, value_t* scratch, Py_ssize_t longest, int64* cumulative,
    int64* twice_excess, double* variance, Py_ssize_t stride,
) noexcept nogil:
    """One gene: ``cumulative[k]`` counts the control's stored values below ``distinct[k]``."""
    cdef value_t* distinct = scratch
    cdef value_t* group = scratch + longest
    cdef value_t* spare = scratch + 2 * longest
    cdef Py_ssize_t k, j, i, n_distinct = 0, m = runs[1] - runs[0]
    cdef int64 n0 = sizes[0], z0 = sizes[0] - m, zg, ng, below_zero = 0, equal, c, twice_u
    cdef wide control_ties = 0, ties
    if m > 0:  # without any value in the block there is no address to copy from
        memcpy(distinct, values + runs[0], m * sizeof(value_t))
    sort_values(distinct, spare, m)
    for j in range(m):
        if distinct[j] < 0:
            below_zero += 1
        if n_distinct == 0 or distinct[j] != distinct[n_distinct - 1]:
            distinct[n_distinct] = distinct[j]
            cumulative[n_distinct] = j
            n_distinct += 1
    cumulative[n_distinct] = m
    for k in range(n_distinct):
        control_ties += tie_term(cumulative[k + 1] - cumulative[k])

    for k in range(1, n_groups):
        m = runs[k + 1] - runs[k]
        ng = sizes[k]
        zg = ng - m
        if m > 0:
            memcpy(group, values + runs[k], m * sizeof(value_t))
        sort_values(group, spare, m)
        twice_u = zg * (2 * below_zero + z0)
        ties = control_ties + tie_term(z0 if pooled else z0 + zg)
        i = 0
        j = 0
        while j < m:
            c = 1
            while j + c < m and group[j + c] == group[j]:
                c += 1
            i = first_at_least(distinct, i, n_distinct, group[j])
            equal = 0
            if i < n_distinct and distinct[i] == group[j]:
                equal = cumulative[i + 1] - cumulative[i]
            twice_u += c * (2 * (cumulative[i] + (z0 if group[j] > 0 else 0)) + equal)
            if not pooled:
                ties += tie_term(equal + c) - tie_term(equal)
            j += c
        if pooled:
            twice_u -= ng * ng
        finish(n0 - ng if pooled else n0, ng, twice_u, ties if tie_correct else 0,
               twice_excess + (k - 1) * stride, variance + (k - 1) * stride)


cdef void finish(int64 n0, int64 ng, int64 twice_u, wide ties,
                 int64* twice_excess, double* variance) noexcept nogil:
    cdef wide n = n0 + ng
    cdef wide spread = n * n * n - n - ties
    if n0 == 0 or ng == 0:
        twice_excess[0] = 0
        variance[0] = NAN
        return
    twice_excess[0] = twice_u - n0 * ng
    variance[0] = 0 if spread == 0 else (
        <double> n0 * <double> ng * <double> spread / (12.0 * <double> n * <double> (n - 1))
    )


def normal_tails(
    const int64[:, ::1] twice_excess,  # IN (n_groups - 1, n_genes)
    const double[:, ::1] variance,     # IN idem
    const int64[::1] pairs,            # IN (n_groups - 1,), n0 ng
    double[:, ::1] u,                  # OUT (n_groups - 1, n_genes), U of the group
    double[:, ::1] z,                  # OUT idem
    double[:, ::1] pvalue,             # OUT idem
    int n_threads,
):
    """Fill U, z and the two-sided normal p of every (group, gene); NaN where an arm is empty."""
    cdef Py_ssize_t k, g
    cdef double root
    with nogil:
        for k in prange(variance.shape[0], schedule="static", num_threads=n_threads):
            for g in range(variance.shape[1]):
                root = sqrt(variance[k, g])
                if root > 0:
                    z[k, g] = 0.5 * <double> twice_excess[k, g] / root
                else:  # without any difference in the pool 0, without an arm NaN
                    z[k, g] = root
                pvalue[k, g] = erfc(fabs(z[k, g]) / sqrt(2.0))
                u[k, g] = NAN
                if root == root:
                    u[k, g] = 0.5 * <double> (twice_excess[k, g] + pairs[k])
