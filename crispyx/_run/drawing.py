"""Whose turn it is to draw."""

from __future__ import annotations

import threading

# matplotlib's settings are those of the process: while a figure has ours, no other is drawn.
drawing = threading.RLock()
