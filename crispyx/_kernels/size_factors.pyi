# Types of size_factors.pyx; the arrays are described there.
import numpy as np

def add_gene_sums(
    values: np.ndarray,
    genes: np.ndarray,
    log_sums: np.ndarray,
    totals: np.ndarray,
    n_expressing: np.ndarray,
) -> None: ...
def median_ratios(
    values: np.ndarray,
    genes: np.ndarray,
    ptr: np.ndarray,
    log_mean: np.ndarray,
    scratch: np.ndarray,
    size_factors: np.ndarray,
    n_threads: int,
) -> None: ...
def cell_totals(
    values: np.ndarray,
    genes: np.ndarray,
    ptr: np.ndarray,
    log_mean: np.ndarray,
    totals: np.ndarray,
    n_threads: int,
) -> None: ...
