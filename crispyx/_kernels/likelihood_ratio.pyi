# Types of likelihood_ratio.pyx; the arrays are described there.
import numpy as np

def likelihood_ratio_roots(
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
    alpha: np.ndarray,
    scratch: np.ndarray,
    out: np.ndarray,
    n_threads: int,
) -> None: ...
