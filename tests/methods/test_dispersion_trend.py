"""The engine's trend is the definition itself."""

from __future__ import annotations

from crispyx._stats import dispersion_trend
from reference.dispersion_trend import fit_trend


def test_the_trend_has_one_definition_for_both_engines() -> None:
    assert dispersion_trend.fit_trend is fit_trend
