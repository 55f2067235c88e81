"""Vectors of a sparse matrix in another order, or stored by the other axis.

Values are moved, never looked at: they come as unsigned integers of their width. Threads own
ranges of output vectors and meet the input in its order, so the result does not depend on them.
"""

from libc.string cimport memcpy
from cython.parallel cimport prange

ctypedef long long int64

cdef extern from "prefetch.h" nogil:
    void prefetch "crispyx_prefetch"(const void* address)

cdef enum:
    AHEAD = 8  # vectors between the one that is read and the one that is fetched

ctypedef fused raw_t:
    unsigned char
    unsigned short
    unsigned int
    unsigned long long


def count_minor(
    const int[::1] minor,       # IN (nnz,)
    const int64[::1] edges,     # IN (n_threads + 1,), cuts of the values among the threads
    int64[:, ::1] counts,       # IN OUT (n_threads, n_minor)
    int n_threads,
):
    """Add the values of each vector of the other axis to the counts of each thread."""
    cdef Py_ssize_t j
    cdef int t
    with nogil:
        for t in prange(n_threads, schedule="static", num_threads=n_threads):
            for j in range(edges[t], edges[t + 1]):
                counts[t, minor[j]] += 1


def turn(
    const raw_t[::1] values,     # IN (nnz,)
    const int[::1] minor,        # IN (nnz,)
    const int64[::1] ptr,        # IN (n_major + 1,)
    int first_major,
    const int[::1] place,        # IN (n_minor,), output vector of each vector of the other axis
    const int64[::1] edges,      # IN (n_threads + 1,), cuts of the output vectors
    int64[::1] cursor,           # IN OUT (n_output,), where each output vector goes on
    raw_t[::1] out_values,       # OUT (values of all output vectors,)
    int[::1] out_major,          # OUT idem
    int n_threads,
):
    """Append a block to the vectors of the other axis; those outside the cuts are left out.

    More values than there is room for are counted by the cursors and not written.
    """
    cdef Py_ssize_t i, j
    cdef int64 room = out_values.shape[0]
    cdef int64 low, high, slot
    cdef int t, m
    with nogil:
        for t in prange(n_threads, schedule="static", num_threads=n_threads):
            low = edges[t]
            high = edges[t + 1]
            for i in range(ptr.shape[0] - 1):
                for j in range(ptr[i], ptr[i + 1]):
                    m = place[minor[j]]
                    if low <= m < high:
                        slot = cursor[m]
                        cursor[m] = slot + 1
                        if slot < room:
                            out_values[slot] = values[j]
                            out_major[slot] = first_major + <int> i


def turn_stretches(
    const raw_t[::1] values,     # IN (nnz,)
    const int[::1] minor,        # IN (nnz,), rising within a vector
    const int64[::1] ptr,        # IN (n_major + 1,)
    const int64[::1] edges,      # IN (n_shares + 1,), cuts of the vectors
    int first,                   # first vector of the other axis
    int64[::1] begin,            # IN OUT (n_major,), a place in each vector up to first, then behind
    int64[:, ::1] cursor,        # IN OUT (n_shares, n_other), where the values of each share go on
    raw_t[::1] out_values,       # OUT (values of the other vectors,)
    int[::1] out_major,          # OUT idem
    int n_threads,
):
    """Put a stretch of every vector to its vectors of the other axis, each share to its own places.

    More values than there is room for are counted by the cursors and not written.
    """
    cdef Py_ssize_t s
    cdef int64 room = out_values.shape[0]
    cdef int stop = first + <int> cursor.shape[1]
    if room == 0:
        return
    with nogil:
        for s in prange(cursor.shape[0], schedule="dynamic", num_threads=n_threads):
            turn_share(
                &values[0], &minor[0], &ptr[0], edges[s], edges[s + 1], first, stop, &begin[0],
                &cursor[s, 0], &out_values[0], &out_major[0], room,
            )


cdef void turn_share(
    const raw_t* values, const int* minor, const int64* ptr, int64 start, int64 stop, int first,
    int stop_other, int64* begin, int64* cursor, raw_t* out_values, int* out_major, int64 room,
) noexcept nogil:
    cdef int64 i, j, last, slot
    cdef int m
    for i in range(start, stop):
        if i + AHEAD < stop:
            prefetch(minor + begin[i + AHEAD])
            prefetch(values + begin[i + AHEAD])
        j = begin[i]
        last = ptr[i + 1]
        while j < last and minor[j] < first:
            j += 1
        while j < last:
            m = minor[j]
            if m >= stop_other:
                break
            if m >= first:  # the file may have changed since it was checked
                slot = cursor[m - first]
                cursor[m - first] = slot + 1
                if slot < room:
                    out_values[slot] = values[j]
                    out_major[slot] = <int> i
            j += 1
        begin[i] = j


def place_vectors(
    const raw_t[::1] values,   # IN (nnz,)
    const int[::1] minor,      # IN (nnz,)
    const int64[::1] ptr,      # IN (n_major + 1,)
    const int64[::1] slots,    # IN (n_major,), where each vector goes, -1 for one left out
    raw_t[::1] out_values,     # OUT (values of all output vectors,)
    int[::1] out_minor,        # OUT idem
    int n_threads,
):
    """Copy whole vectors to their places."""
    cdef Py_ssize_t i
    cdef int64 n
    with nogil:
        for i in prange(slots.shape[0], schedule="static", num_threads=n_threads):
            n = ptr[i + 1] - ptr[i]
            if slots[i] >= 0 and n > 0:
                memcpy(&out_values[slots[i]], &values[ptr[i]], n * sizeof(raw_t))
                memcpy(&out_minor[slots[i]], &minor[ptr[i]], n * sizeof(int))
