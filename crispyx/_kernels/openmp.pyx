"""What the OpenMP runtime, if any, offers."""


cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    /* Asked of the runtime, so that this module is linked with it and loads it. */
    static int crispyx_has_openmp(void) { return omp_get_thread_limit() > 0; }
    #else
    static int crispyx_has_openmp(void) { return 0; }
    #endif
    """
    int crispyx_has_openmp()


def has_openmp():
    """Return True when the kernels were compiled with OpenMP."""
    return crispyx_has_openmp() == 1
