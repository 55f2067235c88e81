"""Writes beside HDF5: columns of a table that a file holds row after row, and an early start."""

from libc.errno cimport EINTR, errno

ctypedef long long int64

cdef extern from "<unistd.h>" nogil:
    Py_ssize_t pwrite(int file, const void* data, size_t n, int64 place)

cdef extern from *:
    """
    #include <fcntl.h>
    #ifdef SYNC_FILE_RANGE_WRITE
    static void crispyx_start_writing(int file, long long place, long long n_bytes) {
        sync_file_range(file, place, n_bytes, SYNC_FILE_RANGE_WRITE);
    }
    #else
    static void crispyx_start_writing(int file, long long place, long long n_bytes) {}
    #endif
    """
    void crispyx_start_writing(int file, long long place, long long n_bytes) nogil


def start_writing(int file, int64 place, int64 n_bytes):
    """Let the disk begin with bytes that will not change; 0 bytes are all that follow.

    Nothing is waited for, and nothing is promised: an fsync has less to do.
    """
    with nogil:
        crispyx_start_writing(file, place, n_bytes)


def write_strips(
    int file,
    const unsigned char[:, ::1] strips,  # IN (n_rows, n_bytes)
    int64 place,                         # of the first strip in the file
    int64 stride,                        # bytes from one row to the next
):
    """Write a strip of every row; return the number of the error that stopped it, or 0."""
    cdef Py_ssize_t row, n_written
    cdef size_t done
    cdef int failed = 0
    with nogil:
        for row in range(strips.shape[0]):
            done = 0
            while done < <size_t> strips.shape[1]:
                n_written = pwrite(
                    file, &strips[row, done], strips.shape[1] - done, place + row * stride + done
                )
                if n_written < 0:
                    if errno == EINTR:
                        continue
                    failed = errno
                    break
                done += n_written
            if failed:
                break
    return failed
