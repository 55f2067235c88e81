# Types of ranked_counts.pyx; the arrays are described there.
import numpy as np

def fill_ranked_runs(
    values: np.ndarray,
    cells: np.ndarray,
    ptr: np.ndarray,
    member_ptr: np.ndarray,
    member_groups: np.ndarray,
    member_ranks: np.ndarray,
    run_ptr: np.ndarray,
    cursor: np.ndarray,
    out_values: np.ndarray,
    out_ranks: np.ndarray,
    n_threads: int,
) -> None: ...
def fill_pair_runs(
    values: np.ndarray,
    ranks: np.ndarray,
    run_ptr: np.ndarray,
    group: int,
    new_ranks: np.ndarray,
    n_control: int,
    pair_ptr: np.ndarray,
    out_values: np.ndarray,
    out_ranks: np.ndarray,
    n_threads: int,
) -> None: ...
