# Types of beta_mixtures.pyx; the arrays are described there.
import numpy as np

def fit_beta(
    n_components: int,
    ptr: np.ndarray,
    log_x: np.ndarray,
    log_1x: np.ndarray,
    n: np.ndarray,
    concentration: np.ndarray,
    starts: np.ndarray,
    tolerance: float,
    max_iterations: int,
    parameters: np.ndarray,
    scores: np.ndarray,
    n_iterations: np.ndarray,
    status: np.ndarray,
    n_threads: int,
) -> None: ...
