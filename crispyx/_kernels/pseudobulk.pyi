# Types of pseudobulk.pyx; the arrays are described there.
import numpy as np

def add_cells(
    values: np.ndarray,
    genes: np.ndarray,
    ptr: np.ndarray,
    cells: np.ndarray,
    times: np.ndarray,
    groups: np.ndarray,
    group_ptr: np.ndarray,
    sizes: np.ndarray,
    target_sum: float,
    take_log1p: bool,
    first_gene: int,
    totals: np.ndarray,
    n_threads: int,
) -> None: ...
def add_genes(
    values: np.ndarray,
    cells: np.ndarray,
    ptr: np.ndarray,
    member_ptr: np.ndarray,
    member_groups: np.ndarray,
    member_times: np.ndarray,
    sizes: np.ndarray,
    target_sum: float,
    take_log1p: bool,
    totals: np.ndarray,
    n_threads: int,
) -> None: ...
