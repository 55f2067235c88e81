# Types of cooks.pyx; the arrays are described there.
import numpy as np

def bound_distances(
    values: np.ndarray,
    ranks: np.ndarray,
    run_ptr: np.ndarray,
    cell_ptr: np.ndarray,
    suffix_ptr: np.ndarray,
    size_factors: np.ndarray,
    rows: np.ndarray,
    suffix: np.ndarray,
    node_s: np.ndarray,
    node_log: np.ndarray,
    prefix_log: np.ndarray,
    intercept: np.ndarray,
    change: np.ndarray,
    alpha: np.ndarray,
    min_mu: float,
    scratch: np.ndarray,
    bound: np.ndarray,
    n_threads: int,
) -> None: ...
