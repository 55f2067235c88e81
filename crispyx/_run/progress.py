"""Progress bars on standard error."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from typing import TypeVar

from crispyx.settings import settings

T = TypeVar("T")


def track(
    items: Iterable[T],
    *,
    total: int | None,
    label: str,
    unit: str,
    show: bool | None = None,
    done: int = 0,
) -> Generator[T, None, None]:
    """Yield the items, with a bar that counts them and estimates the time left.

    Parameters
    ----------
    items : iterable
        What is worked on.
    total, done : int
        Number of units in all (None where that is not known), and how many an earlier run
        completed.
    label, unit : str
        Shown left of the bar, and the name of one item.
    show : bool or None
        None follows ``settings.progress``, else shows the bar when standard error is a terminal.
    """
    if show is None:
        show = settings.progress
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(
        items, total=total, initial=done, desc=label, unit=unit, dynamic_ncols=True, leave=False
    )
