"""How zarr stores are written in this session."""

from __future__ import annotations

from dataclasses import dataclass

from crispyx._io.zarr_stores import import_zarr
from crispyx.errors import InputError
from crispyx.settings import settings


@dataclass(frozen=True)
class StoreForm:
    """How a store is written.

    Attributes
    ----------
    version : {2, 3}
        Format of zarr.
    sharded : bool
        Several chunks in one file.
    """

    version: int
    sharded: bool


def store_form() -> StoreForm:
    """Return how stores are written in this session.

    Raises
    ------
    ImportError
        zarr is not installed.
    InputError
        The settings ask for what this version of zarr, or the format, does not have.
    """
    import anndata

    newest = 3 if hasattr(import_zarr("a zarr store").Group, "create_array") else 2
    usual = getattr(anndata.settings, "zarr_write_format", 2)
    version = settings.zarr_format or (3 if settings.zarr_shards else min(usual, newest))
    if version > newest:
        raise InputError(
            "settings.zarr_format is 3, which this version of zarr does not write; "
            'pip install "zarr>=3.1" "anndata>=0.12", or give 2'
        )
    if settings.zarr_shards and version < 3:
        raise InputError(
            "settings.zarr_shards is True, but only zarr format 3 has shards: set "
            "settings.zarr_format = 3 (zarr 3.1 or later), or settings.zarr_shards = False"
        )
    return StoreForm(version, settings.zarr_shards)
