# Types of grouped_rows.pyx; the arrays are described there.
import numpy as np

def count_places(
    values: np.ndarray,
    genes: np.ndarray,
    ptr: np.ndarray,
    cells: np.ndarray,
    group_ptr: np.ndarray,
    start: int,
    stored_zeros: bool,
    begin: np.ndarray,
    end: np.ndarray,
    places: np.ndarray,
    n_threads: int,
) -> None: ...
def place_runs(places: np.ndarray, run_ptr: np.ndarray, n_threads: int) -> None: ...
def fill_places(
    values: np.ndarray,
    genes: np.ndarray,
    group_ptr: np.ndarray,
    start: int,
    stored_zeros: bool,
    begin: np.ndarray,
    end: np.ndarray,
    places: np.ndarray,
    out_values: np.ndarray,
    n_threads: int,
) -> None: ...
