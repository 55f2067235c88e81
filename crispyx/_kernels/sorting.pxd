# Sorting inside kernels: numbers in place, with scratch of the same length from the caller.

from libc.string cimport memcpy

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
