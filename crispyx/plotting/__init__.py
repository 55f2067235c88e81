"""Figures: volcano, quality control, guide calls (``cx.pl``)."""

from __future__ import annotations

from crispyx.plotting.qc import plot_qc_summary
from crispyx.plotting.volcano import plot_volcano

__all__ = ["plot_qc_summary", "plot_volcano"]
