# Types of batch_effects.pyx; the arrays are described there.
import numpy as np

def fit_batch_effects(
    model: int,
    ptr: np.ndarray,
    y: np.ndarray,
    stratum: np.ndarray,
    n: np.ndarray,
    depths: np.ndarray,
    batch_of: np.ndarray,
    cells_at: np.ndarray,
    n_batches: int,
    priors: bool,
    intercept_variance: float,
    pooled: np.ndarray,
    n_starts: int,
    tolerance: float,
    max_iterations: int,
    left: np.ndarray,
    work: np.ndarray,
    parameters: np.ndarray,
    effects: np.ndarray,
    scores: np.ndarray,
    n_iterations: np.ndarray,
    status: np.ndarray,
    n_threads: int,
) -> None: ...
