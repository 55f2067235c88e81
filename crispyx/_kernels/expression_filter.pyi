# Types of expression_filter.pyx; the arrays are described there.
import numpy as np

def tested_pairs(
    expressing0: np.ndarray,
    mean0: np.ndarray,
    n0: np.ndarray,
    expressing1: np.ndarray,
    mean1: np.ndarray,
    n1: np.ndarray,
    min_pct0: float,
    min_pct1: float,
    min_mean0: float,
    min_mean1: float,
    tested: np.ndarray,
    n_threads: int,
) -> None: ...
