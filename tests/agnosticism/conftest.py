"""Containers are written once for all tests that read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from containers import Stored


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], Path]:
    """All containers by (container, layout, type of numbers)."""
    pytest.importorskip("zarr")
    return Stored(tmp_path_factory.mktemp("stored"))
