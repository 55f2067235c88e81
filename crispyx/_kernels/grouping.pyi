# Types of grouping.pyx; the arrays are described there.
import numpy as np

def count_runs(
    cells: np.ndarray,
    ptr: np.ndarray,
    member_ptr: np.ndarray,
    member_groups: np.ndarray,
    run_ptr: np.ndarray,
    n_threads: int,
) -> None: ...
def fill_runs(
    values: np.ndarray,
    cells: np.ndarray,
    ptr: np.ndarray,
    member_ptr: np.ndarray,
    member_groups: np.ndarray,
    run_ptr: np.ndarray,
    cursor: np.ndarray,
    out_values: np.ndarray,
    n_threads: int,
) -> None: ...
