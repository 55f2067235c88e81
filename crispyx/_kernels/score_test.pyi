# Types of score_test.pyx; the arrays are described there.
import numpy as np

BATCH_NUMBERS: int

def score_tests(
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
    n_batches: int,
    alpha: np.ndarray,
    scratch: np.ndarray,
    out: np.ndarray,
    n_threads: int,
) -> None: ...
