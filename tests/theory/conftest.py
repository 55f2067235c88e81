"""Real screens for the theory tests, where they can be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("CRISPYX_DATA_DIR")
    if not folder:
        pytest.skip("CRISPYX_DATA_DIR is not set: the folder with the real screens")
    return Path(folder)
