"""What the OpenMP runtime, if any, offers."""


cdef extern from *:
    """
    #ifdef _OPENMP
    #define CRISPYX_HAS_OPENMP 1
    #else
    #define CRISPYX_HAS_OPENMP 0
    #endif
    """
    int CRISPYX_HAS_OPENMP


def has_openmp():
    """Return True when the kernels were compiled with OpenMP."""
    return CRISPYX_HAS_OPENMP == 1
