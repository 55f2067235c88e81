# Types of histogram_mixtures.pyx; the arrays are described there.
import numpy as np

def fit_poisson_gauss(
    ptr: np.ndarray,
    x: np.ndarray,
    n: np.ndarray,
    log_factorial: np.ndarray,
    priors: bool,
    sd_floor: float,
    n_starts: int,
    tolerance: float,
    max_iterations: int,
    parameters: np.ndarray,
    scores: np.ndarray,
    n_iterations: np.ndarray,
    status: np.ndarray,
    n_threads: int,
) -> None: ...
def fit_gauss(
    ptr: np.ndarray,
    x: np.ndarray,
    n: np.ndarray,
    sd_floor: float,
    n_starts: int,
    tolerance: float,
    max_iterations: int,
    parameters: np.ndarray,
    scores: np.ndarray,
    n_iterations: np.ndarray,
    status: np.ndarray,
    n_threads: int,
) -> None: ...
def poisson_gauss_log_odds(
    ptr: np.ndarray,
    counts: np.ndarray,
    x: np.ndarray,
    log_factorial: np.ndarray,
    table_x: np.ndarray,
    table_factorial: np.ndarray,
    parameters: np.ndarray,
    log_odds_of: np.ndarray,
    n_threads: int,
) -> None: ...
