# Types of grouping.pyx; the arrays are described there.
import numpy as np

def group_pieces(
    values: np.ndarray,
    cells: np.ndarray,
    ptr: np.ndarray,
    first_cell: np.ndarray,
    group_of_cell: np.ndarray,
    run_ptr: np.ndarray,
    sizes: np.ndarray,
    target_sum: float,
    out_values: np.ndarray,
    value_kind: np.ndarray,
    major_kind: np.ndarray,
    n_threads: int,
) -> None: ...
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
