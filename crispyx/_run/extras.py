"""Optional packages, imported where they are used."""

from __future__ import annotations

from typing import Any

from crispyx.errors import MissingPackageError


def import_scanpy(user: str) -> Any:
    """Return scanpy for ``user``, such as ``"cx.tl.umap"``.

    Raises
    ------
    MissingPackageError
        It is not installed; the message says how to install it.
    """
    try:
        import scanpy
    except ImportError as error:
        raise MissingPackageError(
            f"{user} needs scanpy, which is not installed: "
            'pip install "crispyx[scanpy]" (in a source tree: pip install ".[scanpy]")'
        ) from error
    return scanpy


def import_distributed() -> Any:
    """Return dask.distributed.

    Raises
    ------
    MissingPackageError
        It is not installed; the message says how to install it.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingPackageError(
            "the dask executor needs dask.distributed, which is not installed: "
            'pip install "crispyx[dask]" (in a source tree: pip install ".[dask]")'
        ) from error
    return distributed
