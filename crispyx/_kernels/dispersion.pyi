# Types of dispersion.pyx; the arrays are described there.
import numpy as np

def normalized_moments(
    values: np.ndarray,
    ranks: np.ndarray,
    run_ptr: np.ndarray,
    cell_ptr: np.ndarray,
    size_factors: np.ndarray,
    mean: np.ndarray,
    squares: np.ndarray,
    n_threads: int,
) -> None: ...
def fit_dispersions(
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
    mean: np.ndarray,
    start: np.ndarray,
    precision: np.ndarray,
    upper: np.ndarray,
    shared: bool,
    stop_where_flat: bool,
    min_mu: float,
    scratch: np.ndarray,
    out: np.ndarray,
    n_threads: int,
) -> None: ...
