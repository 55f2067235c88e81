# Types of distinct_counts.pyx; the arrays are described there.
import numpy as np

def group_keys(
    ptr: np.ndarray,
    keys: np.ndarray,
    scratch: np.ndarray,
    n_cells: np.ndarray,
    n_distinct: np.ndarray,
    n_threads: int,
) -> None: ...
def look_up(
    ptr: np.ndarray,
    keys: np.ndarray,
    bin_ptr: np.ndarray,
    bin_keys: np.ndarray,
    bin_values: np.ndarray,
    values: np.ndarray,
    n_threads: int,
) -> None: ...
