# Types of grouped_rows.pyx; the arrays are described there.
import numpy as np

def count_genes(
    values: np.ndarray,
    genes: np.ndarray,
    ptr: np.ndarray,
    cells: np.ndarray,
    group_ptr: np.ndarray,
    stored_zeros: bool,
    counts: np.ndarray,
    n_threads: int,
) -> None: ...
def place_runs(
    counts: np.ndarray, start: int, places: np.ndarray, run_ptr: np.ndarray, n_threads: int
) -> None: ...
def fill_runs(
    values: np.ndarray,
    genes: np.ndarray,
    ptr: np.ndarray,
    cells: np.ndarray,
    group_ptr: np.ndarray,
    start: int,
    stored_zeros: bool,
    begin: np.ndarray,
    places: np.ndarray,
    sizes: np.ndarray,
    target_sum: float,
    out_values: np.ndarray,
    n_threads: int,
) -> None: ...
