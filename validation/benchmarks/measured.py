"""Run a command and measure it: ``python -I -S measured.py OUTPUT TIMEOUT COMMAND...``.

A process of its own, because Linux counts the memory of the process that starts another into the
peak of the one it starts: this one is small.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time


def measure(command: list[str], timeout: float) -> dict[str, float | int | bool]:
    """Return wall and CPU seconds, peak resident bytes and exit code of a command.

    CPU seconds include those of the command's own children; the peak is that of the largest single
    process. A command is killed with all it started after ``timeout`` seconds.
    """
    overtime = []
    start = time.perf_counter()
    process = subprocess.Popen(command, start_new_session=True)

    def kill(*_: object) -> None:
        overtime.append(True)
        os.killpg(process.pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    wall = time.perf_counter() - start
    signal.setitimer(signal.ITIMER_REAL, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # Popen has not waited itself
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_rss": usage.ru_maxrss * unit,
        "exit_code": process.returncode,
        "timed_out": bool(overtime),
    }


if __name__ == "__main__":
    figures = measure(sys.argv[3:], float(sys.argv[2]))
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(figures, file)
