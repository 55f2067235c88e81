# Types of welch.pyx; the arrays are described there.
import numpy as np

def welch(
    mean0: np.ndarray,
    variance0: np.ndarray,
    n0: np.ndarray,
    mean1: np.ndarray,
    variance1: np.ndarray,
    n1: np.ndarray,
    statistic: np.ndarray,
    pvalue: np.ndarray,
    degrees_of_freedom: np.ndarray,
    n_threads: int,
) -> None: ...
def student_tails(
    statistic: np.ndarray,
    degrees_of_freedom: np.ndarray,
    side: int,
    pvalue: np.ndarray,
    n_threads: int,
) -> None: ...
def log_student_tails(
    statistic: np.ndarray,
    degrees_of_freedom: np.ndarray,
    logs: np.ndarray,
    n_threads: int,
) -> None: ...
def log_fold_changes(
    before: np.ndarray,
    mean1: np.ndarray,
    pseudocount: float,
    change: np.ndarray,
    n_threads: int,
) -> None: ...
