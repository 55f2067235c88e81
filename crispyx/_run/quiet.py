"""Warnings left out for a while, by any number of threads at once."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_OWN = "(?#left out by crispyx)"  # a comment of the pattern: no filter of the user's is the same
_lock = threading.Lock()
_users: Counter[tuple[type[Warning], str]] = Counter()


@contextmanager
def leaving_out(category: type[Warning], message: str = "") -> Iterator[None]:
    """Leave out warnings while the block runs.

    ``warnings.catch_warnings`` puts back the filters that it found. Of two threads, the one that
    came second would put back those of the first, for ever.

    Parameters
    ----------
    category : type
        Class of the warnings.
    message : str
        Pattern of their beginning.
    """
    key, pattern = (category, message), _OWN + message
    with _lock:
        if not _users[key]:
            warnings.filterwarnings("ignore", pattern, category)
        _users[key] += 1
    try:
        yield
    finally:
        with _lock:
            _users[key] -= 1
            if not _users[key]:
                warnings.filters[:] = [  # type: ignore[index]
                    entry
                    for entry in warnings.filters
                    if getattr(entry[1], "pattern", None) != pattern or entry[2] is not category
                ]
