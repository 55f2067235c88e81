# Types of control_slopes.pyx; the arrays are described there.
import numpy as np

def n_scratch(
    n_members: int, n_strata: int, n_columns: int, n_numbers: int, n_levels: int
) -> int: ...
def control_slopes(
    values: np.ndarray,
    ranks: np.ndarray,
    run_ptr: np.ndarray,
    cell_ptr: np.ndarray,
    size_factors: np.ndarray,
    alpha: np.ndarray,
    design: np.ndarray,
    levels: np.ndarray,
    diagonal: bool,
    max_iterations: int,
    tolerance: float,
    numbers: np.ndarray,
    scratch: np.ndarray,
    out: np.ndarray,
    n_threads: int,
) -> None: ...
