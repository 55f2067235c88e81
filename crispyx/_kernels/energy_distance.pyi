# Types of energy_distance.pyx; the arrays are described there.
import numpy as np

WIDTH: int

def add_distances(
    points: np.ndarray, others: np.ndarray, sums: np.ndarray, n_threads: int
) -> None: ...
def subset_distances(
    points: np.ndarray,
    subsets: np.ndarray,
    scratch: np.ndarray,
    totals: np.ndarray,
    n_threads: int,
) -> None: ...
