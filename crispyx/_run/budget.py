"""Memory that an operation may use, and how many genes or cells fit into it."""

from __future__ import annotations

import math

import psutil

from crispyx.errors import InputError, MemoryBudgetError
from crispyx.settings import settings

GB = 1_000_000_000
_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def _cgroup_free() -> int | None:
    """Return the bytes left under the control group's limit; reclaimable file cache is free."""
    for limit_file, used_file, stat_file in _CGROUP_FILES:
        try:
            with open(limit_file, encoding="ascii") as file:
                limit = file.read().strip()
            with open(used_file, encoding="ascii") as file:
                used = int(file.read())
            with open(stat_file, encoding="ascii") as file:
                stat = dict(line.split() for line in file)
        except (OSError, ValueError):
            continue
        if limit == "max" or int(limit) > 1 << 60:
            return None
        cache = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
        return max(0, int(limit) - used + cache)
    return None


def available_memory() -> int:
    """Return the bytes that can be allocated, container and SLURM limits included."""
    free = psutil.virtual_memory().available
    group = _cgroup_free()
    return free if group is None else min(free, group)


def working_memory(memory_limit_gb: float | None = None) -> int:
    """Return the bytes an operation may allocate on top of what the process holds already.

    Parameters
    ----------
    memory_limit_gb : float or None
        Limit for the whole process in GB (1e9 bytes); None takes ``settings.memory_limit_gb``, else
        half of the available memory is used for the operation.

    Raises
    ------
    InputError
        The limit is not above 0.
    """
    limit = settings.memory_limit_gb if memory_limit_gb is None else memory_limit_gb
    if limit is None:
        return available_memory() // 2
    if not limit > 0:
        raise InputError(f"memory_limit_gb is {limit!r}; give GB above 0, or None to detect")
    held = psutil.Process().memory_info().rss
    return min(int(limit * GB) - held, available_memory())


def size_text(n_bytes: float) -> str:
    """Return a number of bytes as people read it: 1.234 GB, 56.7 MB, 8.9 kB, 0 bytes."""
    for unit, size, digits in (("GB", GB, 3), ("MB", 1_000_000, 1), ("kB", 1_000, 1)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.{digits}f} {unit}"
    return f"{n_bytes:.0f} bytes"


def require(needed: int, budget: int, what: str) -> None:
    """Raise when the smallest unit of ``what`` does not fit into the budget (both in bytes)."""
    if needed > budget:
        held = psutil.Process().memory_info().rss
        # Rounded up, with 10 MB for what the process holds more of at the next call.
        floor = math.ceil(100 * (needed + held) / GB + 1) / 100
        raise MemoryBudgetError(
            f"{what} needs at least {size_text(needed)} of memory beside the {size_text(held)} "
            f"that this process holds, but the limit leaves {size_text(max(budget, 0))}; "
            f"give memory_limit_gb={floor:.2f} or more"
        )
