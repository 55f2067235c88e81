"""Filters of HDF5 chunks, undone outside HDF5 and its lock: byte shuffle and LZF."""

from libc.string cimport memcpy, memset


def unshuffle(
    const unsigned char[::1] shuffled,  # IN (n_bytes,), first bytes of all items, second bytes, ...
    unsigned char[::1] items,           # OUT (n_bytes,)
    Py_ssize_t width,
):
    """Put the bytes of items of ``width`` bytes together again; a rest shorter than one is copied."""
    cdef Py_ssize_t n = shuffled.shape[0] // width
    cdef Py_ssize_t rest = shuffled.shape[0] - n * width
    cdef const unsigned char* source
    cdef unsigned char* target
    cdef Py_ssize_t i, k
    if shuffled.shape[0] == 0:
        return
    source = &shuffled[0]
    target = &items[0]
    with nogil:
        # Widths known to the compiler become byte interleaving of whole registers.
        if width == 4:
            for i in range(n):
                target[4 * i] = source[i]
                target[4 * i + 1] = source[n + i]
                target[4 * i + 2] = source[2 * n + i]
                target[4 * i + 3] = source[3 * n + i]
        elif width == 2:
            for i in range(n):
                target[2 * i] = source[i]
                target[2 * i + 1] = source[n + i]
        else:
            for k in range(width):
                for i in range(n):
                    target[width * i + k] = source[k * n + i]
        if rest:
            memcpy(target + n * width, source + n * width, rest)


def decompress_lzf(
    const unsigned char[::1] packed,  # IN (n_packed,)
    unsigned char[::1] plain,         # OUT (n_bytes,)
):
    """Return the number of bytes written, or -1 when the stream is damaged or too long.

    A control byte below 32 announces that many literal bytes and one more. Otherwise its upper
    three bits are a length (7: more follows) and its lower five, with the next byte, a distance
    back into what has been written.
    """
    cdef Py_ssize_t n_packed = packed.shape[0], n_plain = plain.shape[0]
    cdef Py_ssize_t at = 0, filled = 0, length, distance, i
    cdef int control
    cdef bint damaged = False
    cdef const unsigned char* source
    cdef unsigned char* target
    if n_packed == 0 or n_plain == 0:
        return -1
    source = &packed[0]
    target = &plain[0]
    with nogil:
        while at < n_packed:
            control = source[at]
            at += 1
            if control < 32:
                length = control + 1
                if at + length > n_packed or filled + length > n_plain:
                    damaged = True
                    break
                memcpy(target + filled, source + at, length)
                at += length
                filled += length
                continue
            length = control >> 5
            if length == 7:
                if at >= n_packed:
                    damaged = True
                    break
                length += source[at]
                at += 1
            if at >= n_packed:
                damaged = True
                break
            distance = ((control & 31) << 8) + source[at] + 1
            at += 1
            length += 2
            if distance > filled or filled + length > n_plain:
                damaged = True
                break
            if distance >= length:
                memcpy(target + filled, target + filled - distance, length)
            elif distance == 1:
                memset(target + filled, target[filled - 1], length)
            else:
                for i in range(length):
                    target[filled + i] = target[filled + i - distance]
            filled += length
    return -1 if damaged else filled
