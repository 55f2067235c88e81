# Types of normalize.pyx; the arrays are described there.
import numpy as np

def add_row_totals(
    values: np.ndarray,
    ptr: np.ndarray,
    totals: np.ndarray,
    n_threads: int,
) -> None: ...
def add_column_totals(values: np.ndarray, rows: np.ndarray, totals: np.ndarray) -> None: ...
def scale_rows(
    values: np.ndarray,
    ptr: np.ndarray,
    totals: np.ndarray,
    target_sum: float,
    take_log1p: bool,
    out: np.ndarray,
    n_threads: int,
) -> None: ...
def scale_by_cell(
    values: np.ndarray,
    cells: np.ndarray,
    sizes: np.ndarray,
    target_sum: float,
    out: np.ndarray,
    n_threads: int,
) -> None: ...
