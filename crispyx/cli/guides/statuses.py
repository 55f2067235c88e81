"""How the fits of guides came out, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crispyx.cli.conduct import UNFITTED, to_stderr

if TYPE_CHECKING:
    import pandas as pd


def statuses(fits: pd.DataFrame) -> dict[str, int]:
    """Return the number of guides of each status, the most frequent first."""
    counted = fits["status"].astype(str).value_counts()
    return {str(status): int(n) for status, n in counted.items()}


def end_strictly(strict: bool, fits: pd.DataFrame) -> None:
    """End with exit code 3 when guides have no reliable fit and that was asked about."""
    unfitted = int((fits["status"].astype(str) != "ok").sum())
    if strict and unfitted:
        to_stderr(f"crispyx: {unfitted} of {len(fits)} guides have no reliable fit (--strict)")
        raise SystemExit(UNFITTED)
