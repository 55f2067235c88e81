"""Exact Wilcoxon rank-sum of every group against the control: no group is ever sorted.

With n0 control cells, of which ``z0`` are zero, and a group of ``ng`` cells, of which ``zg`` are
zero: let L(x) be the number of control values below x and E(x) the number equal to x, zeros
included. Then, all in integers,

    2 U = sum over the group's values of 2 L(x) + E(x)          (zeros: zg times the term at 0)
    T   = sum of t^3 - t over the ties of the pool
        = T_control + sum over the group's values of 3 t (t + 1)

with t the number of values equal to x that are there already: E(x) and those of the group before.
The control is sorted once per gene; every other value finds its place through a table of equally
wide buckets. Its arithmetic is monotone in x, which is all that an exact search needs.

When group 0 is the pool of all cells and the control of a group is the pool without it, the pool
takes the control's place: its ties are the ties of the test, and the group's comparisons with
itself, ng^2 in 2 U, are subtracted. Only the variance and z are floating point. The tie term of N
cells reaches N^3 and is kept in 128 bits where 64 are too few.
"""

from libc.math cimport INFINITY, NAN, erfc, fabs, sqrt
from libc.string cimport memcpy, memset
from cython.parallel cimport prange, threadid

from crispyx._kernels.sorting cimport sort_floats, sort_values

ctypedef long long int64
ctypedef unsigned long long uint64

cdef extern from *:
    """
    typedef __int128 crispyx_wide;
    """
    ctypedef long long wide "crispyx_wide"

cdef extern from "rank_sum_paths.h" nogil:
    ctypedef struct control_t "crispyx_control":
        const float* distinct
        const int* before
        const int* start
        float low, scale, last_bucket
        int n
    int c_best_path "crispyx_best_path"()
    void look_up_vectors "crispyx_look_up"(
        int path, const control_t* control, const float* values, int64 n,
        int* twice, int* equal, int* place)
    int64 run_vectors "crispyx_run"(
        int path, const float* values, const int* twice, const int* equal, int n, int64* ties)

ctypedef fused value_t:
    float
    double

cdef enum:
    ROWS = 16  # taken at a time: other threads need the cores as well
    # Values of a group that are compared pair by pair.
    SHORT_RUN = 32
    SHORT_RUN_AVX2 = 64
    SHORT_RUN_AVX512 = 128
    FEW_OTHERS = 16  # values that are looked for in a hash table at once
    MIN_BUCKETS = 1024
    MAX_CUBED = 2097151   # the largest n whose cube fits 63 bits
    MAX_SQUARED = 46340   # the largest t whose t (t + 1) fits 31 bits, and 2^31 of them 63 bits

PORTABLE = 0


def best_path():
    """Return the fastest set of loops of this processor: 0 portable, 1 AVX2, 2 AVX-512."""
    return c_best_path()


def rank_sum(
    const value_t[::1] values,      # IN (nnz,)
    const int64[:, ::1] run_ptr,    # IN (n_genes, n_groups + 1), group 0 is the control
    const int64[::1] group_sizes,   # IN (n_groups,)
    bint tie_correct,
    bint pooled,                    # group 0 holds the other groups' cells too
    value_t[:, ::1] value_scratch,  # SCRATCH (n_threads, scratch_values(longest))
    int[:, ::1] count_scratch,      # SCRATCH (n_threads, scratch_counts(longest, widest))
    Py_ssize_t longest,             # longest run of the block
    int64[:, ::1] twice_excess,     # OUT (n_groups - 1, n_genes), 2 U - n0 ng; 0 without an arm
    double[:, ::1] variance,        # OUT idem, of U; NaN where an arm is empty
    int path,                       # loops to use, at most best_path()
    int n_threads,
):
    """Fill the integer and the variance of the test of every (group, gene)."""
    cdef Py_ssize_t g
    cdef int t
    cdef const value_t* first = &values[0] if values.shape[0] > 0 else NULL
    with nogil:
        # Neighboring genes share cache lines of the tables: one thread takes eight of them.
        for g in prange(run_ptr.shape[0], schedule="dynamic", chunksize=8, num_threads=n_threads):
            t = threadid()
            rank_sum_gene(
                first, &run_ptr[g, 0], &group_sizes[0], group_sizes.shape[0], tie_correct, pooled,
                &value_scratch[t, 0], &count_scratch[t, 0], longest,
                &twice_excess[0, g], &variance[0, g], variance.shape[1], path,
            )


def scratch_values(int64 longest):
    """Return the values of scratch that a thread needs for runs of up to ``longest``.

    The distinct values of the control, those of a group that it does not hold, and a hash table of
    these with counts.
    """
    return 2 * longest + 1 + 8 * max(longest, 8)


def scratch_counts(int64 longest, int64 widest):
    """Return the integers of scratch that a thread needs, ``widest`` values in the widest gene."""
    return 2 * longest + 3 + n_buckets(longest) + 3 * widest


cdef int64 n_buckets(int64 n_distinct) noexcept nogil:
    # Float32 counts whole numbers up to 2^24.
    return min(max(2 * n_distinct, MIN_BUCKETS), 1 << 22)


cdef void rank_sum_gene(
    const value_t* values, const int64* runs, const int64* sizes, Py_ssize_t n_groups,
    bint tie_correct, bint pooled, value_t* scratch, int* counts, Py_ssize_t longest,
    int64* twice_excess, double* variance, Py_ssize_t stride, int path,
) noexcept nogil:
    cdef value_t* distinct = scratch
    cdef value_t* others = scratch + longest + 1
    cdef value_t* table = others + longest
    cdef int* before = counts
    cdef int* seen = before + longest + 2
    cdef int* start = seen + longest + 1
    cdef int* twice = start + n_buckets(longest)
    cdef Py_ssize_t first = runs[1], n_values = runs[n_groups] - runs[1]
    cdef int* equal = twice + n_values
    cdef int* place = equal + n_values
    cdef Py_ssize_t k, at, m = runs[1] - runs[0]
    cdef int n_distinct, vector_run, most_equal = 0
    cdef int64 n0 = sizes[0], z0 = sizes[0] - m, zg, ng, below_zero = 0, twice_u, tied
    cdef wide control_ties = 0, ties
    cdef bint any_negative = False
    if m > 0:  # without any value in the block there is no address to copy from
        memcpy(distinct, values + runs[0], m * sizeof(value_t))
    sort_control(distinct, others, m)
    while below_zero < m and distinct[below_zero] < 0:
        below_zero += 1
    n_distinct = keep_distinct(distinct, before, m)
    memset(seen, 0, (n_distinct + 1) * sizeof(int))
    for k in range(n_distinct):
        most_equal = max(most_equal, before[k + 1] - before[k])
        control_ties += tie_term(before[k + 1] - before[k])
    look_up(distinct, before, start, n_distinct, values + first, n_values,
            twice, equal, place, path)
    any_negative = has_negative(values + first, n_values)
    vector_run = min(
        SHORT_RUN_AVX512 if path == 2 else SHORT_RUN_AVX2 if path == 1 else -1,
        MAX_SQUARED - most_equal,
    )

    for k in range(1, n_groups):
        m = runs[k + 1] - runs[k]
        at = runs[k] - first
        ng = sizes[k]
        zg = ng - m
        ties = control_ties + tie_term(z0 if pooled else z0 + zg)
        if value_t is float and m <= vector_run and not pooled:
            twice_u = run_vectors(
                path, <const float*> values + runs[k], twice + at, equal + at, m, &tied)
            ties += 3 * tied
        else:
            twice_u = total(twice + at, m)
            if not pooled and tie_correct:
                ties += 3 * ties_of_run(
                    values + runs[k], equal + at, place + at, m, seen, others, table)
        twice_u += zg * (2 * below_zero + z0)
        if any_negative:
            twice_u += 2 * z0 * n_positive(values + runs[k], m)
        else:
            twice_u += 2 * z0 * m
        if pooled:
            twice_u -= ng * ng
        finish(n0 - ng if pooled else n0, ng, twice_u, ties if tie_correct else 0,
               twice_excess + (k - 1) * stride, variance + (k - 1) * stride)


cdef void sort_control(value_t* a, value_t* scratch, Py_ssize_t n) noexcept nogil:
    if value_t is float:
        sort_floats(a, scratch, n)
    else:
        sort_values(a, scratch, n)


cdef int keep_distinct(value_t* values, int* before, Py_ssize_t n) noexcept nogil:
    """Leave every value of a sorted run once, infinity behind; count the values before each."""
    cdef Py_ssize_t j
    cdef int k = 0
    for j in range(n):
        if k == 0 or values[j] != values[k - 1]:
            values[k] = values[j]
            before[k] = <int> j
            k += 1
    before[k] = <int> n
    before[k + 1] = <int> n
    values[k] = <value_t> INFINITY
    return k


cdef void look_up(
    const value_t* distinct, const int* before, int* start, int n_distinct,
    const value_t* values, Py_ssize_t n, int* twice, int* equal, int* place, int path,
) noexcept nogil:
    """For every value find 2 L + E and E among the control's non-zeros, and its place or n_distinct."""
    cdef control_t control
    cdef value_t low = distinct[0] if n_distinct > 0 else 0
    cdef value_t scale = 0, last = n_buckets(n_distinct) - 1
    cdef Py_ssize_t j, b = 0
    cdef int k
    if n_distinct > 1:
        scale = last / (distinct[n_distinct - 1] - low)
    for k in range(n_distinct):
        while b <= bucket(distinct[k], low, scale, last):
            start[b] = k
            b += 1
    while b <= last:
        start[b] = n_distinct
        b += 1
    if value_t is float:
        if path != 0:
            control.distinct, control.before, control.start = distinct, before, start
            control.low, control.scale, control.last_bucket = low, scale, last
            control.n = n_distinct
            look_up_vectors(path, &control, values, n, twice, equal, place)
            return
    for j in range(n):
        k = first_at_least(distinct, start[bucket(values[j], low, scale, last)], n_distinct,
                           values[j])
        place[j] = n_distinct
        equal[j] = 0
        if k < n_distinct and distinct[k] == values[j]:
            place[j] = k
            equal[j] = before[k + 1] - before[k]
        twice[j] = 2 * before[k] + equal[j]


cdef inline int bucket(value_t x, value_t low, value_t scale, value_t last) noexcept nogil:
    # An infinite range gives NaN, which is bucket 0 as well.
    cdef value_t b = (x - low) * scale
    b = b if b > 0 else 0
    return <int> (b if b < last else last)


cdef inline int first_at_least(const value_t* distinct, int low, int n,
                               value_t x) noexcept nogil:
    """Return the first k >= low with distinct[k] >= x: a few steps, then halving."""
    cdef int step = 0, middle
    while distinct[low] < x:  # infinity stands behind the last
        low += 1
        step += 1
        if step == 6:
            break
    else:
        return low
    while low < n:
        middle = low + (n - low) // 2
        if distinct[middle] < x:
            low = middle + 1
        else:
            n = middle
    return low


cdef inline int64 total(const int* numbers, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef int64 result = 0
    for j in range(n):
        result += numbers[j]
    return result


cdef inline bint has_negative(const value_t* values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef int any_negative = 0
    for j in range(n):
        any_negative |= values[j] < 0
    return any_negative


cdef inline int64 n_positive(const value_t* values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef int64 result = 0
    for j in range(n):
        result += values[j] > 0
    return result


cdef inline wide tie_term(wide t) noexcept nogil:
    return t * t * t - t


cdef inline wide ties_of_short_run(const value_t* values, const int* equal, int n) noexcept nogil:
    """Return the sum of t (t + 1) of a group; every pair of values is compared."""
    cdef int i, j
    cdef int64 t
    cdef wide result = 0
    for j in range(n):
        t = equal[j]
        for i in range(j):
            t += values[i] == values[j]
        result += t * (t + 1)
    return result


cdef inline wide ties_of_run(
    const value_t* values, const int* equal, const int* place, Py_ssize_t n,
    int* seen, value_t* others, value_t* table,
) noexcept nogil:
    """Return the sum of t (t + 1) of a group; ``seen`` is zero before and after.

    A value of the control is counted at its place, the others in a hash table.
    """
    cdef Py_ssize_t j, n_others = 0
    cdef int64 t
    cdef wide result = 0
    if n <= SHORT_RUN:
        return ties_of_short_run(values, equal, n)
    if equal[0] == 0 and n_tied(equal, n) == 0:
        memcpy(others, values, n * sizeof(value_t))
        return ties_of_others(others, n, table)
    for j in range(n):
        t = seen[place[j]]
        seen[place[j]] += 1
        others[n_others] = values[j]
        n_others += equal[j] == 0
        t = t + equal[j] if equal[j] != 0 else 0
        result += t * (t + 1)
    for j in range(n):
        seen[place[j]] = 0
    return result + ties_of_others(others, n_others, table)


cdef inline Py_ssize_t n_tied(const int* equal, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef int result = 0
    for j in range(n):
        result += equal[j] != 0
    return result


cdef wide ties_of_others(value_t* values, Py_ssize_t n, value_t* table) noexcept nogil:
    """Return the sum of t (t + 1), t the equal values before, by open addressing; 0 is empty.

    Of values that are there once nearly all are left out before.
    """
    cdef Py_ssize_t j, size = 16
    cdef uint64 at
    cdef int64 t
    cdef wide result = 0
    cdef int* count
    if n > FEW_OTHERS:
        n = keep_repeated(values, n, <unsigned int*> table)
    while size < 2 * n:
        size *= 2
    count = <int*> (table + size)
    memset(table, 0, size * sizeof(value_t))
    for j in range(n):
        at = hashed(values[j]) & (size - 1)
        while table[at] != 0 and table[at] != values[j]:
            at = (at + 1) & (size - 1)
        if table[at] == 0:
            table[at] = values[j]
            count[at] = 0
        count[at] += 1
        t = count[at] - 1
        result += t * (t + 1)
    return result


cdef Py_ssize_t keep_repeated(value_t* values, Py_ssize_t n, unsigned int* seen) noexcept nogil:
    """Move every value that is there twice or more to the front, and a few others; count them.

    One bit of ``seen`` is set for each value. A value that finds its bit set may have been there:
    it sets a bit of ``again``, by another hash, and all whose bit of ``again`` is set are kept. The
    two tables take less than 8 n integers.
    """
    cdef Py_ssize_t j, n_kept = 0
    cdef uint64 at, n_bits = 1024
    cdef bint any_again = False
    cdef unsigned int* again
    while n_bits < 64 * <uint64> n:
        n_bits *= 2
    again = seen + n_bits // 32
    memset(seen, 0, n_bits // 4)
    for j in range(n):
        at = hashed(values[j]) & (n_bits - 1)
        if seen[at >> 5] >> (at & 31) & 1:
            at = hashed_anew(values[j]) & (n_bits - 1)
            again[at >> 5] |= 1u << (at & 31)
            any_again = True
        else:
            seen[at >> 5] |= 1u << (at & 31)
    if not any_again:
        return 0
    for j in range(n):
        at = hashed_anew(values[j]) & (n_bits - 1)
        values[n_kept] = values[j]
        n_kept += again[at >> 5] >> (at & 31) & 1
    return n_kept


cdef inline uint64 hashed(value_t x) noexcept nogil:
    cdef uint64 bits = 0
    memcpy(&bits, &x, sizeof(value_t))
    bits *= 0x9E3779B97F4A7C15ULL
    return bits >> 32


cdef inline uint64 hashed_anew(value_t x) noexcept nogil:
    cdef uint64 bits = 0
    memcpy(&bits, &x, sizeof(value_t))
    bits *= 0xC2B2AE3D27D4EB4FULL
    return bits >> 32


cdef inline void finish(int64 n0, int64 ng, int64 twice_u, wide ties,
                        int64* twice_excess, double* variance) noexcept nogil:
    cdef int64 n = n0 + ng
    cdef double spread
    if n0 == 0 or ng == 0:
        twice_excess[0] = 0
        variance[0] = NAN
        return
    if n <= MAX_CUBED:
        spread = <double> (n * n * n - n - <int64> ties)
    else:
        spread = <double> (<wide> n * n * n - n - ties)
    twice_excess[0] = twice_u - n0 * ng
    variance[0] = 0
    if spread != 0:
        variance[0] = <double> n0 * <double> ng * spread / (12.0 * <double> n * <double> (n - 1))


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
        for k in prange(variance.shape[0], schedule="dynamic", chunksize=ROWS,
                        num_threads=n_threads):
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
