# Types of strips.pyx; the arrays are described there.
import numpy as np

def write_strips(file: int, strips: np.ndarray, place: int, stride: int) -> int: ...
