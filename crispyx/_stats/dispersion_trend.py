"""The trend of dispersions over the mean, from all genes at once: one engine, the definition.

Reference: ``reference.dispersion_trend``.
"""

from __future__ import annotations

from reference.dispersion_trend import DispersionTrend, fit_trend, local_trend, median_trend

__all__ = ["DispersionTrend", "fit_trend", "local_trend", "median_trend"]
