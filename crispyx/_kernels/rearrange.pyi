# Types of rearrange.pyx; the arrays are described there.
import numpy as np

def count_minor(
    minor: np.ndarray, edges: np.ndarray, counts: np.ndarray, n_threads: int
) -> None: ...
def turn(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    first_major: int,
    place: np.ndarray,
    edges: np.ndarray,
    cursor: np.ndarray,
    out_values: np.ndarray,
    out_major: np.ndarray,
    n_threads: int,
) -> None: ...
def turn_stretches(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    edges: np.ndarray,
    first: int,
    begin: np.ndarray,
    cursor: np.ndarray,
    out_values: np.ndarray,
    out_major: np.ndarray,
    n_threads: int,
) -> None: ...
def place_vectors(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    slots: np.ndarray,
    out_values: np.ndarray,
    out_minor: np.ndarray,
    n_threads: int,
) -> None: ...
