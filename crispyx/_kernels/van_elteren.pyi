# Types of van_elteren.pyx; the arrays are described there.
import numpy as np

def combine_batches(
    twice_excess: np.ndarray,
    variance: np.ndarray,
    weights: np.ndarray,
    pairs: np.ndarray,
    side: int,
    u: np.ndarray,
    z: np.ndarray,
    pvalue: np.ndarray,
    effect_size: np.ndarray,
    n_threads: int,
) -> None: ...
