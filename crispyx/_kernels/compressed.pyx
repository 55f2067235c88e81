"""Compressed sparse vectors: validation, inspection of values, change of the major axis.

The other axis of a matrix is built from segments. A segment is a run of at most 65,536 major
vectors turned around: for every minor index the (value, offset of the major vector) pairs in major
order. Segments are made one after the other in one pass over the input, and a block of the other
axis is the concatenation of one slice per segment.
"""

from libc.math cimport isfinite, floor
from libc.string cimport memcpy
from cython.parallel cimport prange

ctypedef long long int64
ctypedef unsigned short uint16

ctypedef fused value_t:
    float
    double

ctypedef fused index_t:
    int
    long long

cdef enum:
    LOOK = 4096  # values looked at together

ctypedef fused number_t:
    signed char
    unsigned char
    short
    unsigned short
    int
    unsigned int
    long long
    unsigned long long


def check_pointers(
    const int64[::1] ptr,  # IN (n_major + 1,)
    int64 n_stored,
):
    """Return the first vector whose pointers decrease or leave [0, n_stored], or -1."""
    cdef Py_ssize_t i, n = ptr.shape[0] - 1
    cdef Py_ssize_t bad = -1
    with nogil:
        for i in range(n):
            if ptr[i] < 0 or ptr[i + 1] < ptr[i] or ptr[i + 1] > n_stored:
                bad = i
                break
    return bad


def check_minor(
    const index_t[::1] minor,  # IN (nnz,)
    const int64[::1] ptr,      # IN (n_major + 1,)
    int64 n_minor,
):
    """Return (first position out of range, first position out of order, first duplicate), -1 for none.

    Duplicates are looked for between neighbors: after sorting they are all found.
    """
    cdef Py_ssize_t i, j
    cdef int64 outside = -1, unordered = -1, duplicate = -1
    with nogil:
        for i in range(ptr.shape[0] - 1):
            if ptr[i] == ptr[i + 1] or (
                minor[ptr[i]] >= 0
                and minor[ptr[i + 1] - 1] < n_minor
                and is_rising(&minor[ptr[i]], ptr[i + 1] - ptr[i])
            ):
                continue
            for j in range(ptr[i], ptr[i + 1]):
                if minor[j] < 0 or minor[j] >= n_minor:
                    outside = j
                    break
                if j > ptr[i]:
                    if minor[j] < minor[j - 1] and unordered < 0:
                        unordered = j
                    elif minor[j] == minor[j - 1] and duplicate < 0:
                        duplicate = j
            if outside >= 0:
                break
    return outside, unordered, duplicate


cdef inline bint is_rising(const index_t* minor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef int falls = 0
    for j in range(1, n):
        falls |= minor[j] <= minor[j - 1]
    return not falls


def inspect_values(
    const value_t[::1] values,  # IN (nnz,)
):
    """Return the first (non-finite, negative, fractional, zero) position, -1 for none, of each kind."""
    cdef Py_ssize_t i, begin, end
    cdef int64 nonfinite = -1, negative = -1, fractional = -1, zero = -1
    cdef value_t v
    with nogil:
        end = 0
        while end < values.shape[0] and nonfinite < 0:
            begin = end
            end = min(begin + LOOK, values.shape[0])
            # A look without branches first: what has been found already needs no place.
            if not is_remarkable(&values[begin], end - begin, negative < 0, fractional < 0, zero < 0):
                continue
            for i in range(begin, end):
                v = values[i]
                if not isfinite(v):
                    nonfinite = i
                    break
                if v < 0 and negative < 0:
                    negative = i
                if v == 0 and zero < 0:
                    zero = i
                if fractional < 0 and v != floor(v):
                    fractional = i
    return nonfinite, negative, fractional, zero


cdef inline bint is_remarkable(
    const value_t* values, Py_ssize_t n, bint negative, bint fractional, bint zero,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef int infinite = 0, below = 0, between = 0, nothing = 0
    cdef value_t v
    for i in range(n):
        v = values[i]
        infinite |= not v - v == 0
        below |= v < 0
        nothing |= v == 0
    if infinite or (below and negative) or (nothing and zero):
        return True
    if fractional:
        for i in range(n):
            v = values[i]
            # Beyond the 31 bits of an int the slow look decides.
            between |= not -2147483648 < v < 2147483647 or v != <value_t> <int> v
    return between


def count_segments(
    const value_t[::1] values,  # IN (nnz,)
    const int[::1] minor,       # IN (nnz,)
    const int64[::1] ptr,       # IN (n_major + 1,)
    const unsigned char[::1] use_major,  # IN (n_major,)
    const int64[::1] edges,     # IN (n_segments + 1,), first major vector of each and the end
    int64[:, ::1] out_ptr,      # OUT (n_segments, n_minor + 1), where each minor starts in all
    int n_threads,
):
    """Return the number of values of all segments; unused vectors and stored zeros are left out."""
    cdef Py_ssize_t s, i, j, m
    cdef Py_ssize_t n_minor = out_ptr.shape[1] - 1
    cdef int64 at = 0, n
    with nogil:
        for s in prange(out_ptr.shape[0], schedule="static", num_threads=n_threads):
            for m in range(n_minor + 1):
                out_ptr[s, m] = 0
            for i in range(edges[s], edges[s + 1]):
                if use_major[i]:
                    for j in range(ptr[i], ptr[i + 1]):
                        out_ptr[s, minor[j]] += values[j] != 0
        for s in range(out_ptr.shape[0]):
            for m in range(n_minor + 1):
                n = out_ptr[s, m]
                out_ptr[s, m] = at
                at += n
    return at


def fill_segments(
    const value_t[::1] values,  # IN (nnz,)
    const int[::1] minor,       # IN (nnz,)
    const int64[::1] ptr,       # IN (n_major + 1,)
    const unsigned char[::1] use_major,  # IN (n_major,)
    const int64[::1] edges,     # IN (n_segments + 1,)
    int64[:, ::1] out_ptr,      # IN OUT (n_segments, n_minor + 1), as counted
    value_t[::1] out_values,    # OUT (values of all segments,)
    uint16[::1] out_major,      # OUT idem, from the first vector of its segment
    int n_threads,
):
    """Turn each run of up to 65,536 vectors around by a counting sort."""
    cdef Py_ssize_t s, i, j, m, slot
    cdef Py_ssize_t n_minor = out_ptr.shape[1] - 1
    with nogil:
        for s in prange(out_ptr.shape[0], schedule="static", num_threads=n_threads):
            # out_ptr[s, m] walks to the end of minor m while filling, then is shifted back by one.
            for i in range(edges[s], edges[s + 1]):
                if not use_major[i]:
                    continue
                for j in range(ptr[i], ptr[i + 1]):
                    if values[j] != 0:
                        slot = out_ptr[s, minor[j]]
                        out_ptr[s, minor[j]] = slot + 1
                        out_values[slot] = values[j]
                        out_major[slot] = <uint16> (i - edges[s])
            for m in range(n_minor - 1, 0, -1):
                out_ptr[s, m] = out_ptr[s, m - 1]
        # The first minor of a segment starts where the segment before ends.
        for s in range(out_ptr.shape[0]):
            out_ptr[s, 0] = out_ptr[s - 1, n_minor] if s > 0 else 0


def append_slice(
    const value_t[::1] values,  # IN (n,) slice of a segment
    const uint16[::1] offsets,  # IN (n,) its major offsets
    const int64[::1] ptr,       # IN (n_minor + 1,) from 0
    int first_major,
    int64[::1] fill,            # IN OUT (n_minor,) where each vector goes on
    value_t[::1] out_values,    # OUT (values of the block,)
    int[::1] out_major,         # OUT idem
):
    """Append one segment's slice to the vectors of a block of the other axis."""
    cdef Py_ssize_t m, j, at, n
    with nogil:
        for m in range(ptr.shape[0] - 1):
            n = ptr[m + 1] - ptr[m]
            at = fill[m]
            if n > 0:
                memcpy(&out_values[at], &values[ptr[m]], n * sizeof(value_t))
                for j in range(n):
                    out_major[at + j] = first_major + offsets[ptr[m] + j]
            fill[m] = at + n


def drop_zeros(
    value_t[::1] values,  # IN OUT (nnz,), compacted in place
    int[::1] minor,       # IN OUT (nnz,), idem
    int64[::1] ptr,       # IN OUT (n_major + 1,)
):
    """Remove stored zeros from a block in place; the new length is ``ptr[-1]``."""
    cdef Py_ssize_t i, j, kept = 0
    cdef int64 begin
    with nogil:
        begin = ptr[0]
        for i in range(ptr.shape[0] - 1):
            j = begin
            begin = ptr[i + 1]
            while j < begin:
                if values[j] != 0:
                    values[kept] = values[j]
                    minor[kept] = minor[j]
                    kept += 1
                j += 1
            ptr[i + 1] = kept


def compress_dense(
    const value_t[:, ::1] dense,  # IN (n_major, n_minor)
    int64[::1] ptr,               # OUT (n_major + 1,)
    value_t[::1] out_values,      # OUT (at least the non-zeros,)
    int[::1] out_minor,           # OUT idem
):
    """Write the non-zeros (NaN included) of dense rows."""
    cdef Py_ssize_t i, j, kept = 0
    with nogil:
        ptr[0] = 0
        for i in range(dense.shape[0]):
            for j in range(dense.shape[1]):
                if dense[i, j] != 0:
                    out_values[kept] = dense[i, j]
                    out_minor[kept] = <int> j
                    kept += 1
            ptr[i + 1] = kept


def largest_magnitude(
    const number_t[::1] values,  # IN (nnz,)
):
    """Return the largest absolute value of integers, as a float (0 for none)."""
    cdef Py_ssize_t i
    cdef double largest = 0
    cdef double v
    with nogil:
        for i in range(values.shape[0]):
            v = <double> values[i]
            if v < 0:
                v = -v
            if v > largest:
                largest = v
    return largest
