"""Numbers as the page writes them."""

from __future__ import annotations

import math

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
MAX_LFC = 10.0


def count_text(value: int) -> str:
    """Return 12,345."""
    return f"{value:,}"


def p_text(p: float) -> str:
    """Return a p-value with two digits; a dash when there is none."""
    if not math.isfinite(p):
        return NOTHING
    if p == 0:
        return "< 1e-300"
    if p >= 0.001:
        return f"{p:.2g}"
    mantissa, exponent = f"{p:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def lfc_text(value: float) -> str:
    """Return a signed log2 fold change; beyond 10 only that it is."""
    if not math.isfinite(value):
        return NOTHING
    sign = MINUS if value < 0 else "+"
    if abs(value) > MAX_LFC:
        return f"{'<' if value < 0 else '>'} {sign}{MAX_LFC:g}"
    return f"{sign}{abs(value):.2f}"


def percent_text(fraction: float) -> str:
    """Return a share of cells in percent, with a decimal below 10."""
    if not math.isfinite(fraction):
        return NOTHING
    return f"{100 * fraction:.{1 if fraction < 0.1 else 0}f}\u00a0%"
