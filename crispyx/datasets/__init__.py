"""Screens to work with: real ones, and simulated ones whose effects are known."""

from __future__ import annotations

from crispyx.datasets.dataset import Dataset
from crispyx.datasets.loaders import gasperini, norman, papalexi, schraivogel, tenx_brain
from crispyx.datasets.simulation import simulate_screen

__all__ = [
    "Dataset",
    "gasperini",
    "norman",
    "papalexi",
    "schraivogel",
    "simulate_screen",
    "tenx_brain",
]
