"""Mapped files that may be cut short while they are read, see ``bus_guard.h``.

All three are called with the interpreter lock held, which orders them.
"""

from libc.stdint cimport uintptr_t

cdef extern from "bus_guard.h":
    int crispyx_watch(uintptr_t begin, uintptr_t n_bytes) nogil
    void crispyx_unwatch(int place) nogil
    bint crispyx_has_faulted(int place) nogil


def watch(uintptr_t address, uintptr_t n_bytes):
    """Let the bytes of a mapping that the file has lost read as zeros; return a place, or -1."""
    return crispyx_watch(address, n_bytes)


def unwatch(int place):
    """Stop watching."""
    crispyx_unwatch(place)


def has_faulted(int place):
    """Tell whether bytes were read that the file has lost."""
    return bool(crispyx_has_faulted(place))
