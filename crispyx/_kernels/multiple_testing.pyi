# Types of multiple_testing.pyx; the arrays are described there.
import numpy as np

def step_up(
    pvalues: np.ndarray, order: np.ndarray, adjusted: np.ndarray, n_threads: int
) -> None: ...
