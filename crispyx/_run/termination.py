"""What SIGTERM does to a run: it ends, as without crispyx, but what is complete is noted first."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM); whoever keeps progress on Ctrl-C keeps it now."""


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM end the process only when the work inside has been put in order.

    Batch systems send it some seconds before they kill. The process then still dies of the signal,
    so that its exit code is the usual one (143 in a shell); a second SIGTERM ends it at once. Where
    the program has its own handler, or in a thread that gets no signals, nothing is changed.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except Terminated as stop:
        notes = "; ".join(getattr(stop, "__notes__", ())) or "nothing is left half-written"
        print(f"crispyx: ended by SIGTERM; {notes}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)  # the handler is the system's again
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
