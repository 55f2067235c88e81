# Types of apeglm.pyx; the arrays are described there.
import numpy as np

def shrink_statistics(
    log_fold_change: np.ndarray,
    standard_error: np.ndarray,
    scale: np.ndarray,
    max_iterations: int,
    tolerance: float,
    out: np.ndarray,
    iterations: np.ndarray,
    converged: np.ndarray,
    n_threads: int,
) -> None: ...
def shrink_counts(
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
    scale: np.ndarray,
    weight: float,
    min_mu: float,
    max_iterations: int,
    tolerance: float,
    literal: bool,
    scratch: np.ndarray,
    out: np.ndarray,
    iterations: np.ndarray,
    converged: np.ndarray,
    n_threads: int,
) -> None: ...
