"""One measured process: a job done by a tool in its own interpreter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from validation.benchmarks.job import OURS, Job, Report

ROOT = Path(__file__).parents[2]
LAUNCHER = Path(__file__).with_name("measured.py")
# A peer may share a name with a package of this project, whose folder therefore comes last.
BOOT = (
    "import sys; sys.path.insert(int(sys.argv[1]), sys.argv[2]); "
    "from validation.benchmarks.run_job import main; main(*sys.argv[3:])"
)
LAST = 10_000
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
LOG_LINES = 3


@dataclass(frozen=True)
class Run:
    """What one process took.

    Attributes
    ----------
    status : {"ok", "not built", "failed", "over time"}
        Only runs that are ``"ok"`` have times.
    operation : float
        Seconds of the operation, with reading and writing, without imports.
    wall, cpu : float
        Seconds of the whole process, and of all its threads.
    peak_rss : int
        Largest resident memory, bytes; with memory-mapped pages of files.
    imports : float
        Seconds of the imports.
    version, error : str
        Version of the tool; why there is no result.
    """

    status: str
    operation: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0
    peak_rss: int = 0
    imports: float = 0.0
    version: str = ""
    error: str = ""


def perform(job: Job, python: Path, timeout: float) -> Run:
    """Do a job in a new process and measure it; its output folder is emptied first."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    figures, log = job.folder / "figures.json", job.folder / "log.txt"
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(figures), str(timeout)]
    with open(log, "wb") as file:
        subprocess.run(
            [*launcher, *_command(job, python, "perform")],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=_environment(job),
            cwd=job.folder,
            check=True,
        )
    measured = json.loads(figures.read_text(encoding="utf-8"))
    if measured["timed_out"]:
        return Run("over time", wall=measured["wall"], error=f"over {timeout:,.0f} s")
    report = _report(job, measured["exit_code"])
    return Run(
        status=report.status,
        operation=report.operation_seconds,
        wall=measured["wall"],
        cpu=measured["cpu"],
        peak_rss=measured["peak_rss"],
        imports=report.import_seconds,
        version=report.version,
        error=report.error,
    )


def late_imports(job: Job) -> tuple[str, ...]:
    """Return the modules that a performed job imported while it ran; none when it failed."""
    return tuple(_report(job, exit_code=0).late_imports)


def collect(job: Job, python: Path) -> Path:
    """Turn what a job wrote into arrays of common names; return their npz file.

    Raises
    ------
    subprocess.CalledProcessError
        The tool's result is not what its adapter expects.
    """
    command = _command(job, python, "collect")
    subprocess.run(
        command, env=_environment(job), cwd=job.folder, check=True, capture_output=True, text=True
    )
    return job.folder / "collected.npz"


def warm(path: str) -> None:
    """Read a file once, so that every run finds it in the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _command(job: Job, python: Path, phase: str) -> list[str]:
    place = "0" if job.tool == OURS else str(LAST)
    # -E and -P: neither PYTHONPATH nor the working folder decides what is imported.
    options = ["-E", "-P", "-s", "-W", "ignore"]
    return [str(python), *options, "-c", BOOT, place, str(ROOT), phase, job.encode()]


def _environment(job: Job) -> dict[str, str]:
    return os.environ | dict.fromkeys(THREAD_VARIABLES, str(job.threads))


def _report(job: Job, exit_code: int) -> Report:
    path, log = job.folder / "report.json", job.folder / "log.txt"
    if path.is_file():
        return Report(**json.loads(path.read_text(encoding="utf-8")))
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LOG_LINES:]
    return Report("failed", error=f"exit code {exit_code}: {' | '.join(last)}")
