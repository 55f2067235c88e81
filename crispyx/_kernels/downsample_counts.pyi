import numpy as np

def downsample_rows(
    values: np.ndarray,
    ptr: np.ndarray,
    n_kept: np.ndarray,
    first_cell: int,
    seed: int,
    replace: bool,
    out: np.ndarray,
    n_threads: int,
) -> None: ...
