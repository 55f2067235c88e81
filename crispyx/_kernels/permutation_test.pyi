# Types of permutation_test.pyx; the arrays are described there.
import numpy as np

def count_reaching_sets(
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
    group: int,
    genes: np.ndarray,
    alpha: np.ndarray,
    weights: np.ndarray,
    first_cell: np.ndarray,
    holder_ptr: np.ndarray,
    holders: np.ndarray,
    scratch: np.ndarray,
    observed: np.ndarray,
    reaching: np.ndarray,
    n_threads: int,
) -> None: ...
