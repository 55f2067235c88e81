"""Compressed sparse vectors: validation, inspection of values, change of the major axis.

The other axis of a matrix is built from segments. A segment is a run of at most 65,536 major
vectors turned around: for every minor index the (value, offset of the major vector) pairs in major
order. Segments are made one after the other in one pass over the input, and a block of the other
axis is the concatenation of one slice per segment.
"""

from libc.math cimport isfinite, floor
from libc.string cimport memcpy

ctypedef long long int64
ctypedef unsigned short uint16

cdef enum:
    INSPECTED = 1024        # values looked at together
    MODERATE = 1 << 30      # such a number fits into an int

ctypedef fused value_t:
    float
    double

ctypedef fused index_t:
    int
    long long

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


cdef bint all_plain(const value_t* values, Py_ssize_t n, bint whole) noexcept nogil:
    """Tell whether all values are finite and above zero, and, if asked for, whole and moderate.

    Without branches, so that the compiler compares whole registers; False only means "look closer".
    """
    cdef Py_ssize_t i
    cdef int odd = 0
    cdef value_t v
    if whole:
        for i in range(n):
            v = values[i]
            odd |= 1 - ((v >= 1) & (v < MODERATE) & (v == <value_t> <int> v))
    else:
        for i in range(n):
            v = values[i]
            # The largest float; larger doubles are looked at one by one.
            odd |= 1 - ((v > 0) & (v <= <value_t> 3.4028234663852886e38))
    return odd == 0


def inspect_values(
    const value_t[::1] values,  # IN (nnz,)
):
    """Return the first (non-finite, negative, fractional, zero) position, -1 for none, of each kind."""
    cdef Py_ssize_t i, start, stop
    cdef int64 nonfinite = -1, negative = -1, fractional = -1, zero = -1
    cdef value_t v
    with nogil:
        start = stop = 0
        while stop < values.shape[0]:
            start = stop
            stop = min(start + INSPECTED, values.shape[0])
            if all_plain(&values[start], stop - start, fractional < 0):
                continue
            for i in range(start, stop):
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
            if nonfinite >= 0:
                break
    return nonfinite, negative, fractional, zero


def scatter_segment(
    const value_t[::1] values,  # IN (nnz,)
    const int[::1] minor,       # IN (nnz,)
    const int64[::1] ptr,       # IN (n_major + 1,)
    const unsigned char[::1] use_major,  # IN (n_major,)
    int64[::1] out_ptr,         # OUT (n_minor + 1,)
    value_t[::1] out_values,    # OUT (nnz,), filled up to out_ptr[-1]
    uint16[::1] out_major,      # OUT (nnz,), idem
):
    """Turn up to 65,536 vectors around by a counting sort; unused ones and stored zeros are left out."""
    cdef Py_ssize_t i, j, m, slot
    cdef Py_ssize_t n_minor = out_ptr.shape[0] - 1
    with nogil:
        for m in range(n_minor + 1):
            out_ptr[m] = 0
        for i in range(ptr.shape[0] - 1):
            if use_major[i]:
                for j in range(ptr[i], ptr[i + 1]):
                    if values[j] != 0:
                        out_ptr[minor[j] + 1] += 1
        for m in range(n_minor):
            out_ptr[m + 1] += out_ptr[m]
        # out_ptr[m] walks to the end of minor m while filling, then is shifted back by one.
        for i in range(ptr.shape[0] - 1):
            if not use_major[i]:
                continue
            for j in range(ptr[i], ptr[i + 1]):
                if values[j] != 0:
                    slot = out_ptr[minor[j]]
                    out_ptr[minor[j]] = slot + 1
                    out_values[slot] = values[j]
                    out_major[slot] = <uint16> i
        for m in range(n_minor, 0, -1):
            out_ptr[m] = out_ptr[m - 1]
        out_ptr[0] = 0


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
