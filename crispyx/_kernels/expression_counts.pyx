"""Numbers of expressed genes per cell and of expressing cells per gene."""

ctypedef long long int64

ctypedef fused value_t:
    float
    double


def add_expressed(
    const value_t[::1] values,          # IN (nnz,)
    const int[::1] minor,               # IN (nnz,)
    const int64[::1] ptr,               # IN (n_major + 1,)
    const unsigned char[::1] use_major,  # IN (n_major,)
    const unsigned char[::1] use_minor,  # IN (n_minor,)
    int64[::1] per_major,               # IN OUT (n_major,)
    int64[::1] per_minor,               # IN OUT (n_minor,)
):
    """Add, for the vectors in use, the values above zero to the counts of both axes."""
    cdef Py_ssize_t i, j
    with nogil:
        for i in range(ptr.shape[0] - 1):
            if not use_major[i]:
                continue
            for j in range(ptr[i], ptr[i + 1]):
                if values[j] > 0 and use_minor[minor[j]]:
                    per_major[i] += 1
                    per_minor[minor[j]] += 1


def add_rich(
    const value_t[::1] values,           # IN (nnz,)
    const int[::1] minor,                # IN (nnz,)
    const int64[::1] ptr,                # IN (n_major + 1,)
    const unsigned char[::1] use_major,  # IN (n_major,)
    int64 least,
    int64[::1] per_major,                # IN OUT (n_major,)
    int64[::1] per_minor,                # IN OUT (n_minor,)
):
    """Add the values above zero of every vector to its count.

    Those of the vectors in use that have at least ``least`` of them are added to the counts of the
    other axis too.
    """
    cdef Py_ssize_t i, j
    cdef int64 n
    with nogil:
        for i in range(ptr.shape[0] - 1):
            n = 0
            for j in range(ptr[i], ptr[i + 1]):
                n += values[j] > 0
            per_major[i] += n
            if use_major[i] and n >= least:
                for j in range(ptr[i], ptr[i + 1]):
                    per_minor[minor[j]] += values[j] > 0


def count_selected(
    const value_t[::1] values,           # IN (nnz,)
    const int[::1] minor,                # IN (nnz,)
    const int64[::1] ptr,                # IN (n_major + 1,)
    const unsigned char[::1] use_major,  # IN (n_major,)
    const unsigned char[::1] use_minor,  # IN (n_minor,)
    bint drop_zeros,
):
    """Return how many values ``select_minor`` would copy."""
    cdef Py_ssize_t i, j
    cdef int64 kept = 0
    with nogil:
        for i in range(ptr.shape[0] - 1):
            if not use_major[i]:
                continue
            for j in range(ptr[i], ptr[i + 1]):
                if use_minor[minor[j]] and not (drop_zeros and values[j] == 0):
                    kept += 1
    return kept


def select_minor(
    const value_t[::1] values,           # IN (nnz,)
    const int[::1] minor,                # IN (nnz,)
    const int64[::1] ptr,                # IN (n_major + 1,)
    const unsigned char[::1] use_major,  # IN (n_major,)
    const int[::1] new_minor,            # IN (n_minor,), -1 for a dropped one
    bint drop_zeros,
    value_t[::1] out_values,             # OUT (at most nnz,)
    int[::1] out_minor,                  # OUT idem
    int64[::1] out_ptr,                  # OUT (n_kept_major + 1,)
):
    """Copy the kept vectors with their kept positions, renumbered."""
    cdef Py_ssize_t i, j, kept = 0, row = 0
    with nogil:
        out_ptr[0] = 0
        for i in range(ptr.shape[0] - 1):
            if not use_major[i]:
                continue
            for j in range(ptr[i], ptr[i + 1]):
                if new_minor[minor[j]] >= 0 and not (drop_zeros and values[j] == 0):
                    out_values[kept] = values[j]
                    out_minor[kept] = new_minor[minor[j]]
                    kept += 1
            row += 1
            out_ptr[row] = kept
