# Sorting inside kernels: numbers in place, with scratch of the same length from the caller.

from libc.string cimport memcpy, memset

ctypedef fused sorted_t:
    float
    double
    long long

cdef enum:
    RUN = 16  # values sorted by insertion before merging


cdef inline void sort_values(sorted_t* a, sorted_t* scratch, Py_ssize_t n) noexcept nogil:
    """Merge sort from insertion-sorted runs: n log n in the worst case, no allocation."""
    cdef Py_ssize_t begin, middle, end, i, j, k, width
    cdef sorted_t v
    cdef sorted_t* source = a
    cdef sorted_t* target = scratch
    cdef sorted_t* swap
    begin = 0
    while begin < n:
        end = min(begin + RUN, n)
        for i in range(begin + 1, end):
            v = a[i]
            j = i
            while j > begin and a[j - 1] > v:
                a[j] = a[j - 1]
                j -= 1
            a[j] = v
        begin += RUN
    width = RUN
    while width < n:
        begin = 0
        while begin < n:
            middle = min(begin + width, n)
            end = min(begin + 2 * width, n)
            i = begin
            j = middle
            for k in range(begin, end):
                if i < middle and (j >= end or source[i] <= source[j]):
                    target[k] = source[i]
                    i += 1
                else:
                    target[k] = source[j]
                    j += 1
            begin += 2 * width
        swap = source
        source = target
        target = swap
        width *= 2
    if source != a:
        memcpy(a, source, n * sizeof(sorted_t))


cdef enum:
    DIGIT_BITS = 11
    N_DIGITS = 1 << DIGIT_BITS
    N_PASSES = 3
    TOO_FEW_DIGITS = 64  # values below which merging is faster than counting digits


cdef inline unsigned int _rising(unsigned int bits) noexcept nogil:
    # Floats as integers of the same order: negative ones count backwards.
    return ~bits if bits >> 31 else bits | 0x80000000u


cdef inline void sort_floats(float* a, float* scratch, Py_ssize_t n) noexcept nogil:
    """Sort by counting the digits of the bits: three passes, no comparisons. No NaN."""
    cdef int counts[N_PASSES][N_DIGITS]
    cdef unsigned int* source = <unsigned int*> a
    cdef unsigned int* target = <unsigned int*> scratch
    cdef unsigned int* swap
    cdef unsigned int key
    cdef Py_ssize_t i
    cdef int digit, k, at, step
    if n <= TOO_FEW_DIGITS:
        sort_values(a, scratch, n)
        return
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        key = _rising(source[i])
        for k in range(N_PASSES):
            counts[k][key >> (k * DIGIT_BITS) & (N_DIGITS - 1)] += 1
    for k in range(N_PASSES):
        key = _rising(source[0]) >> (k * DIGIT_BITS) & (N_DIGITS - 1)
        if counts[k][key] == n:
            continue
        at = 0
        for digit in range(N_DIGITS):
            step = counts[k][digit]
            counts[k][digit] = at
            at += step
        for i in range(n):
            key = _rising(source[i]) >> (k * DIGIT_BITS) & (N_DIGITS - 1)
            target[counts[k][key]] = source[i]
            counts[k][key] += 1
        swap = source
        source = target
        target = swap
    if source != <unsigned int*> a:
        memcpy(a, source, n * sizeof(float))
