# Types of expression_counts.pyx; the arrays are described there.
import numpy as np

def add_expressed(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    use_major: np.ndarray,
    use_minor: np.ndarray,
    per_major: np.ndarray,
    per_minor: np.ndarray,
) -> None: ...
def add_rich(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    use_major: np.ndarray,
    least: int,
    per_major: np.ndarray,
    per_minor: np.ndarray,
) -> None: ...
def count_selected(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    use_major: np.ndarray,
    use_minor: np.ndarray,
    drop_zeros: bool,
) -> int: ...
def select_minor(
    values: np.ndarray,
    minor: np.ndarray,
    ptr: np.ndarray,
    use_major: np.ndarray,
    new_minor: np.ndarray,
    drop_zeros: bool,
    out_values: np.ndarray,
    out_minor: np.ndarray,
    out_ptr: np.ndarray,
) -> None: ...
