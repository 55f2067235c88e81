# Types of rank_sum.pyx; the arrays are described there.
import numpy as np

PORTABLE: int

def best_path() -> int: ...
def scratch_values(longest: int) -> int: ...
def scratch_counts(longest: int, widest: int) -> int: ...
def rank_sum(
    values: np.ndarray,
    run_ptr: np.ndarray,
    group_sizes: np.ndarray,
    tie_correct: bool,
    pooled: bool,
    value_scratch: np.ndarray,
    count_scratch: np.ndarray,
    longest: int,
    twice_excess: np.ndarray,
    variance: np.ndarray,
    path: int,
    n_threads: int,
) -> None: ...
def normal_tails(
    twice_excess: np.ndarray,
    variance: np.ndarray,
    pairs: np.ndarray,
    u: np.ndarray,
    z: np.ndarray,
    pvalue: np.ndarray,
    n_threads: int,
) -> None: ...
