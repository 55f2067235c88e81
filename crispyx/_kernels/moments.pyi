# Types of moments.pyx; the arrays are described there.
import numpy as np

def fractions(
    n_expressing: np.ndarray, n_cells: np.ndarray, fraction: np.ndarray, n_threads: int
) -> None: ...
def group_moments(
    values: np.ndarray,
    run_ptr: np.ndarray,
    group_sizes: np.ndarray,
    mean: np.ndarray,
    with_variance: bool,
    variance: np.ndarray,
    n_expressing: np.ndarray,
    n_threads: int,
) -> None: ...
