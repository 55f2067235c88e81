"""Do one job inside a tool's own interpreter.

``perform`` is what is measured; ``collect`` turns what the tool wrote into arrays with common
names, in a process of its own.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module

from validation.benchmarks.job import Job, Report
from validation.benchmarks.tools import NotBuiltError, load_adapter


def main(phase: str, encoded: str) -> None:
    """Do one phase, ``"perform"`` or ``"collect"``, of an encoded job."""
    job = Job.decode(encoded)
    if phase == "collect":
        _collect(job)
    else:
        text = json.dumps(asdict(_perform(job)))
        (job.folder / "report.json").write_text(text, encoding="utf-8")


def _perform(job: Job) -> Report:
    start = time.perf_counter()
    try:
        adapter = load_adapter(job.tool)
        run = adapter.ACTIONS[job.operation].prepare(job)
        _preload(job)
        before = set(sys.modules)
        imported = time.perf_counter()
        run()
        done = time.perf_counter()
    except NotBuiltError as missing:
        return Report("not built", error=str(missing))
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is its result
        traceback.print_exc()
        return Report("failed", error=f"{type(error).__name__}: {error}")
    late = tuple(name for name in sys.modules if name not in before)
    return Report("ok", imported - start, done - imported, adapter.version(), late)


def _preload(job: Job) -> None:
    """Import what the operation would, so that its time does not depend on who imports when."""
    for name in job.preload:
        with suppress(ImportError):  # some modules are made, not imported
            import_module(name)


def _collect(job: Job) -> None:
    import numpy as np

    arrays = load_adapter(job.tool).ACTIONS[job.operation].collect(job)
    np.savez(job.folder / "collected.npz", **arrays)
