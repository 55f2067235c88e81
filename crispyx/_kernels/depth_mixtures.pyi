# Types of depth_mixtures.pyx; the arrays are described there.
import numpy as np

def fit_depth(
    model: int,
    ptr: np.ndarray,
    y: np.ndarray,
    depth_of: np.ndarray,
    n: np.ndarray,
    depths: np.ndarray,
    cells_at: np.ndarray,
    n_starts: int,
    tolerance: float,
    max_iterations: int,
    bin_scratch: np.ndarray,
    zero_scratch: np.ndarray,
    parameters: np.ndarray,
    scores: np.ndarray,
    n_iterations: np.ndarray,
    status: np.ndarray,
    n_threads: int,
) -> None: ...
