# Types of guide_rules.pyx; the arrays are described there.
import numpy as np

def assign_umi(
    values: np.ndarray,
    threshold: float,
    assigned: np.ndarray,
    n_threads: int,
) -> None: ...
def assign_max(
    values: np.ndarray,
    ptr: np.ndarray,
    umi_threshold: float,
    assigned: np.ndarray,
    n_threads: int,
) -> None: ...
def assign_ratio(
    values: np.ndarray,
    ptr: np.ndarray,
    threshold: float,
    assigned: np.ndarray,
    n_threads: int,
) -> None: ...
