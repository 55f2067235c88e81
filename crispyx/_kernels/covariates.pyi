# Types of covariates.pyx; the arrays are described there.
import numpy as np

def n_scratch(n_strata: int, n_columns: int, n_nodes: int, n_levels: int) -> int: ...
def adjusted_coefficients(
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
    design: np.ndarray,
    levels: np.ndarray,
    diagonal: bool,
    robust: bool,
    with_ratio: bool,
    max_iterations: int,
    tolerance: float,
    numbers: np.ndarray,
    slopes: np.ndarray,
    cells: np.ndarray,
    scratch: np.ndarray,
    out: np.ndarray,
    iterations: np.ndarray,
    converged: np.ndarray,
    n_threads: int,
) -> None: ...
