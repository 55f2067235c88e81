# Types of projection.pyx; the arrays are described there.
from typing import Any

BLOCK_WIDTH: int
STRIPE: int

def add_column_moments(values: Any, genes: Any, sums: Any, squares: Any) -> None: ...
def add_gram_products(
    values: Any,
    genes: Any,
    ptr: Any,
    vectors: Any,
    shift: Any,
    scratch: Any,
    out: Any,
    n_threads: int,
) -> None: ...
def row_products(
    values: Any, genes: Any, ptr: Any, vectors: Any, shift: Any, out: Any, n_threads: int
) -> None: ...
def add_gram(values: Any, genes: Any, ptr: Any, first: int, out: Any, n_threads: int) -> None: ...
