"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("numpy", "scipy", "h5py", "anndata")
# More runnable processes than this before anything has started: the figures will scatter.
BUSY = 0.5


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory, system, versions and load, each in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{_processor()}, {cores} cores",
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": ".".join(map(str, sys.version_info[:3])),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def was_busy(machine: Mapping[str, str]) -> bool:
    """Whether other processes had been running when a machine was described."""
    return float(machine.get("load before", 0)) > BUSY


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
