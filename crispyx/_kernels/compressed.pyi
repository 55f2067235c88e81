# Types of compressed.pyx; the arrays are described there.
import numpy as np

def check_pointers(ptr: np.ndarray, n_stored: int) -> int: ...
def check_minor(minor: np.ndarray, ptr: np.ndarray, n_minor: int) -> tuple[int, int, int]: ...
def inspect_values(values: np.ndarray) -> tuple[int, int, int, int]: ...
def count_segments(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    use_major: np.ndarray,
    edges: np.ndarray,
    out_ptr: np.ndarray,
    n_threads: int,
) -> int: ...
def fill_segments(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    use_major: np.ndarray,
    edges: np.ndarray,
    out_ptr: np.ndarray,
    out_values: np.ndarray,
    out_major: np.ndarray,
    n_threads: int,
) -> None: ...
def append_slice(
    values: np.ndarray,
    offsets: np.ndarray,
    ptr: np.ndarray,
    first_major: int,
    fill: np.ndarray,
    out_values: np.ndarray,
    out_major: np.ndarray,
) -> None: ...
def drop_zeros(values: np.ndarray, minor: np.ndarray, ptr: np.ndarray) -> None: ...
def compress_dense(
    dense: np.ndarray,
    ptr: np.ndarray,
    out_values: np.ndarray,
    out_minor: np.ndarray,
) -> None: ...
def largest_magnitude(values: np.ndarray) -> float: ...
