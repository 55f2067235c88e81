# Types of nb_likelihood.pyx; the arrays are described there.
import numpy as np

def lagrange_rows(
    places: np.ndarray,
    nodes: np.ndarray,
    barycentric: np.ndarray,
    rows: np.ndarray,
    suffix: np.ndarray,
    n_threads: int,
) -> None: ...
def likelihood_sums(
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
    eta: np.ndarray,
    alpha: np.ndarray,
    min_mu: float,
    scratch: np.ndarray,
    out: np.ndarray,
    n_threads: int,
) -> None: ...
