"""A process that runs operations in children of its own, each with a fault of choice.

A child is forked from a process that has imported everything, so that a kill costs milliseconds.
What disturbs it is set up in the child itself: nothing depends on the environment or on timing,
except where a signal at a random moment is asked for.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
# Whatever touches the disk through Python; HDF5's own writes are reached by a limit of file sizes.
MOMENTS = ("replace", "fsync", "pwrite", "unlink", "truncate", "open")
NOBODY = 65534


@dataclass(frozen=True)
class Fault:
    """What happens to a run.

    Attributes
    ----------
    moment : int or None
        Number of the touch of the disk at which ``action`` happens, from 0.
    action : {"kill", "tear", "interrupt", "terminate", "full"}
        SIGKILL before it, SIGKILL in the middle of a write, SIGINT, SIGTERM, or ENOSPC from it.
    seconds : float or None
        SIGKILL (or ``action``'s signal) after so many seconds instead.
    file_bytes, memory_bytes : int or None
        Limits of the size of files (RLIMIT_FSIZE) and of the address space beyond what the process
        holds (RLIMIT_AS).
    dies_of_size : bool
        The limit of file sizes kills, so that HDF5 is stopped at that very byte.
    as_nobody : bool
        Without the rights of root.
    during : tuple (int, str, int) or None
        At this moment, cut the file to that many bytes.
    """

    moment: int | None = None
    action: str = "kill"
    seconds: float | None = None
    file_bytes: int | None = None
    memory_bytes: int | None = None
    dies_of_size: bool = False
    as_nobody: bool = False
    during: tuple[int, str, int] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    code : int
        Exit code, negative for a signal.
    error : str
        Class and message of what it raised, notes included; empty when it succeeded.
    bases : list of str
        Names of the classes of the error.
    moments : int
        Touches of the disk.
    stderr : str
        What it printed.
    """

    code: int
    error: str = ""
    bases: list[str] = field(default_factory=list)
    moments: int = 0
    stderr: str = ""
    seconds: float = 0.0


class Stage:
    """The process, seen from the tests."""

    def __init__(self, inputs: Path) -> None:
        self.inputs = inputs
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from faults.stage import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        )

    def perform(
        self, name: str, output: Path, fault: Fault = Fault(), *, resume: bool = False
    ) -> Outcome:
        """Run an operation of ``faults.operations`` to its end, whatever that is."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = [name, str(self.inputs), str(output), resume, asdict(fault)]
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve() -> None:
    """Perform the tasks that come in as lines."""
    import anndata  # noqa: F401 - imported once, for all children
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
    import threadpoolctl  # noqa: F401

    import crispyx.guides
    import crispyx.pseudobulk
    import crispyx.qc  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(_perform(*json.loads(line))), flush=True)


def _perform(
    name: str, inputs: str, output: str, resume: bool, fault_fields: dict[str, Any]
) -> dict[str, Any]:
    fault = Fault(**fault_fields)
    report_read, report_write = os.pipe()
    error_read, error_write = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(report_read)
        os.dup2(error_write, 2)
        os.setpgid(0, 0)
        _run_child(name, Path(inputs), Path(output), resume, fault, report_write)
    os.close(report_write)
    os.close(error_write)
    if fault.seconds is not None:
        select.select([report_read], [], [], fault.seconds)
        signals = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
        os.kill(child, signals[fault.action])
    report, printed = _drain(report_read), _drain(error_read)
    _, status = os.waitpid(child, 0)
    outcome = {
        "code": os.waitstatus_to_exitcode(status),
        "stderr": printed.decode(errors="replace"),
        "seconds": time.monotonic() - began,
    }
    return outcome | (json.loads(report) if report else {})


def _drain(handle: int) -> bytes:
    parts = []
    while part := os.read(handle, 1 << 16):
        parts.append(part)
    os.close(handle)
    return b"".join(parts)


def _run_child(
    name: str, inputs: Path, output: Path, resume: bool, fault: Fault, report: int
) -> None:
    from faults import operations

    code, error, moments = 1, None, Moments(fault)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _limit(fault)
        with moments:
            operations.run(name, inputs, output, resume)
        code = 0
    except BaseException as raised:  # noqa: BLE001 - whatever it is goes into the report
        error = raised
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        text = {"moments": moments.count}
        if error is not None:
            notes = getattr(error, "__notes__", ())
            text["error"] = "\n".join((f"{type(error).__name__}: {error}", *notes))
            text["bases"] = [base.__name__ for base in type(error).__mro__]
        os.write(report, json.dumps(text).encode())
        os._exit(code)


def _limit(fault: Fault) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if fault.dies_of_size:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if fault.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, resource.RLIM_INFINITY))
    if fault.memory_bytes is not None:
        with open("/proc/self/statm", encoding="ascii") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + fault.memory_bytes, resource.RLIM_INFINITY))
    if fault.as_nobody and os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


class Moments:
    """Counts the touches of the disk, and acts at one of them."""

    def __init__(self, fault: Fault) -> None:
        self.count = 0
        self._fault = fault
        self._real: dict[str, Callable[..., Any]] = {}

    def __enter__(self) -> Moments:
        for name in MOMENTS:
            self._real[name] = getattr(os, name)
            setattr(os, name, self._wrapped(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def touch(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not (len(arguments) > 1 and arguments[1] & os.O_ACCMODE):
                return real(*arguments, **options)
            now, self.count = self.count, self.count + 1
            if self._fault.during is not None and now == self._fault.during[0]:
                self._real["truncate"](self._fault.during[1], self._fault.during[2])
            if now == self._fault.moment:
                self._act(name, real, arguments)
            return real(*arguments, **options)

        return touch

    def _act(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        action = self._fault.action
        if action == "tear" and name == "pwrite":
            handle, data, place = arguments
            real(handle, memoryview(data).cast("B")[: len(memoryview(data).cast("B")) // 2], place)
        if action in ("kill", "tear"):
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        elif action == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        elif action == "full" and name != "unlink":
            raise OSError(28, "No space left on device")
