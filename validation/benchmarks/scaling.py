"""``python -m validation scale``: how time and memory grow, one axis at a time."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from sys import executable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from validation.benchmarks.job import OURS, Job
from validation.benchmarks.projection import DISK_RATE, Cost, cost_table, projection_table
from validation.benchmarks.runs import perform, warm
from validation.benchmarks.screens import new_contiguous
from validation.benchmarks.tables import markdown_table, number
from validation.cache import cache_folder
from validation.machine import describe_machine, was_busy

DOCS = Path(__file__).parents[2] / "docs"
OPERATIONS = ("wilcoxon", "t-test")
TIMEOUT = 600.0


@dataclass(frozen=True)
class Point:
    """One screen and how it is run.

    Attributes
    ----------
    density : float
        Share of values above 0.
    memory_gb : float or None
        ``memory_limit_gb``; None leaves the choice to the product.
    """

    cells: int = 20_000
    genes: int = 2_000
    perturbations: int = 50
    density: float = 0.1
    threads: int = 2
    memory_gb: float | None = None

    @property
    def n_values(self) -> float:
        """Expected values above 0."""
        return self.cells * self.genes * self.density


BASE = Point()
# Cells that are made at once.
PIECE = 50_000
# Of the base, what every run takes is more than half the time: threads and memory need more.
LARGER = replace(BASE, cells=160_000)
AXES: Mapping[str, tuple[Point, Sequence[Any]]] = {
    "cells": (BASE, (5_000, 20_000, 80_000, 320_000)),
    "genes": (BASE, (1_000, 4_000, 16_000)),
    "perturbations": (BASE, (10, 50, 200, 800)),
    "density": (BASE, (0.02, 0.05, 0.1, 0.2)),
    "threads": (LARGER, (1, 2)),
    "memory_gb": (LARGER, (0.3, 0.5, 1.0)),
}


@dataclass(frozen=True)
class Found:
    """What a run took.

    Attributes
    ----------
    seconds, cpu : float
        Wall time of the operation, CPU time of the process; medians.
    peak_mb : float
        Largest resident memory, 10^6 bytes.
    error : str
        Why there is none.
    """

    operation: str
    axis: str
    point: Point
    n_stored: int
    n_bytes: int
    seconds: float = 0.0
    cpu: float = 0.0
    peak_mb: float = 0.0
    error: str = ""

    @property
    def value(self) -> float:
        """Place on the axis."""
        return float(getattr(self.point, self.axis))


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``scale`` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "scale", help="measure how time and memory grow"
    )
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=tuple(AXES))
    parser.add_argument("--repeats", type=int, default=3, help="runs of each point (3)")
    parser.add_argument("--output", type=Path, default=Path("benchmark_output"))
    parser.add_argument("--docs", action="store_true", help="write docs/scaling.md, too")
    parser.set_defaults(run=scale)
    return parser


def scale(options: argparse.Namespace) -> int:
    """Measure every axis and write table and plot; the exit code counts failed runs."""
    machine, cache = describe_machine(), cache_folder(options.cache)
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="scaling-", dir=cache) as folder:
        found = list(_measured(options.axes, options.repeats, Path(folder)))
    command = f"python -m validation scale --repeats {options.repeats}"
    if tuple(options.axes) != tuple(AXES):
        command += f" --axes {' '.join(options.axes)}"
    for place in (options.output, DOCS) if options.docs else (options.output,):
        place.mkdir(parents=True, exist_ok=True)
        plot(found, place / "scaling.svg")
        (place / "scaling.md").write_text(page(found, command, machine), encoding="utf-8")
    table = json.dumps([asdict(one) for one in found], indent=1)
    (options.output / "scaling.json").write_text(table, encoding="utf-8")
    print((options.output / "scaling.md").read_text(encoding="utf-8"))
    return sum(bool(one.error) for one in found)


def _measured(axes: Sequence[str], repeats: int, folder: Path) -> Iterator[Found]:
    for axis in axes:
        base, values = AXES[axis]
        for value in values:
            point = replace(base, **{axis: value})
            path = folder / "screen.h5ad"
            n_stored = write_screen(point, path)
            warm(str(path))
            for operation in OPERATIONS:
                one = _run(operation, axis, point, path, n_stored, repeats)
                print(f"{operation}, {axis} {value}: {one.seconds:.2f} s {one.error}", flush=True)
                yield one
            path.unlink()


def write_screen(point: Point, path: Path) -> int:
    """Write log-normalized expression without structure, a piece at a time; return its values."""
    import anndata
    import h5py
    import pandas as pd

    rng = np.random.default_rng(0)
    per_cell = rng.binomial(point.genes, point.density, point.cells)
    indptr = np.concatenate([[0], np.cumsum(per_cell)])
    group = rng.integers(0, round(point.perturbations * 1.1) + 1, point.cells)
    labels = np.where(group >= point.perturbations, "control", np.char.add("p", group.astype(str)))
    obs = pd.DataFrame({"perturbation": pd.Categorical(labels)}, index=_names("c", point.cells))
    var = pd.DataFrame(index=_names("g", point.genes))
    anndata.AnnData(obs=obs, var=var, shape=(point.cells, point.genes)).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        matrix = new_contiguous(file, "csr", (point.cells, point.genes), indptr)
        for begin in range(0, point.cells, PIECE):
            own = slice(*indptr[[begin, min(begin + PIECE, point.cells)]])
            matrix["data"][own], matrix["indices"][own] = _piece(
                per_cell[begin : begin + PIECE], point.genes, rng
            )
    return int(indptr[-1])


def _piece(
    per_cell: np.ndarray, n_genes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return values and positions of some cells.

    A cell that expresses k genes has one position in each of k equal parts of all genes: in order,
    and none twice.
    """
    n_values = per_cell.sum()
    part = np.arange(n_values) - np.repeat(np.cumsum(per_cell) - per_cell, per_cell)
    step = n_genes / np.repeat(per_cell, per_cell)
    first, end = (part * step).astype("i4"), ((part + 1) * step).astype("i4")
    depth = np.repeat(rng.lognormal(8.5, 0.4, len(per_cell)), per_cell)
    values = np.log1p(rng.geometric(0.6, n_values) * 1e4 / depth)
    return values.astype("f4"), rng.integers(first, end, dtype="i4")


def _names(letter: str, n: int) -> list[str]:
    return [f"{letter}{i}" for i in range(n)]


def _run(operation: str, axis: str, point: Point, path: Path, n_stored: int, repeats: int) -> Found:
    limit = {} if point.memory_gb is None else {"memory_limit_gb": point.memory_gb}
    columns = {"perturbation_column": "perturbation", "control_label": "control", "ours": limit}
    job = Job(OURS, operation, str(path), str(path.parent / "out"), point.threads, columns)
    runs = [perform(job, Path(executable), TIMEOUT) for _ in range(repeats)]
    one = Found(operation, axis, point, n_stored, path.stat().st_size)
    failed = [run.error or run.status for run in runs if run.status != "ok"]
    if failed:
        return replace(one, error=failed[0])
    return replace(
        one,
        seconds=median(run.operation for run in runs),
        cpu=median(run.cpu for run in runs),
        peak_mb=median(run.peak_rss for run in runs) / 1e6,
    )


def growth(found: Sequence[Found], quantity: str = "seconds") -> float:
    """Return the exponent b of the power law a x^b through the points, by least squares."""
    points = [(one.value, getattr(one, quantity)) for one in found if not one.error]
    x, y = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def costs(found: Sequence[Found]) -> list[Cost]:
    """Return what a further value costs every operation, from the two screens of most cells.

    What every run takes, whatever its screen, is in both of them and not in the difference.
    """
    table = []
    for operation in OPERATIONS:
        chosen = [one for one in found if (one.operation, one.axis) == (operation, "cells")]
        screens = sorted((one for one in chosen if not one.error), key=lambda one: one.n_stored)
        if len(screens) < 2:
            continue
        smaller, larger = screens[-2:]
        values = larger.n_stored - smaller.n_stored
        table.append(
            Cost(
                operation,
                f"{smaller.point.cells:,} and {larger.point.cells:,} cells",
                larger.n_stored,
                (larger.seconds - smaller.seconds) / values * 1e9,
                larger.n_bytes / larger.n_stored,
            )
        )
    return table


def page(found: Sequence[Found], command: str, machine: Mapping[str, str]) -> str:
    """Return the page, in Markdown."""
    head = ("axis", "value", "operation", "operation, s", "CPU, s", "ns a value", "peak MB")
    rows = [
        [
            one.axis,
            f"{one.value:,.10g}",
            one.operation,
            *(
                (number(one.seconds), number(one.cpu), _per_value(one), number(one.peak_mb))
                if not one.error
                else (one.error, "-", "-", "-")
            ),
        ]
        for one in found
    ]
    slopes = []
    for axis in dict.fromkeys(one.axis for one in found):
        for operation in OPERATIONS:
            chosen = [one for one in found if (one.axis, one.operation) == (axis, operation)]
            if len([one for one in chosen if not one.error]) > 1:
                powers = [f"{growth(chosen, name):.2f}" for name in ("seconds", "cpu", "peak_mb")]
                slopes.append([axis, operation, *powers])
    busy = (
        "**Provisional**: other processes were running; seconds scatter, CPU seconds hardly do."
        if was_busy(machine)
        else ""
    )
    base = ", ".join(f"{name} {value}" for name, value in asdict(BASE).items() if value)
    parts = [
        "# Scaling",
        "Whole processes on simulated log-normalized CSR files, one axis at a time around "
        f"{base}; threads and memory limits at {LARGER.cells:,} cells. *operation*: with reading "
        "and writing, without imports; medians. Files are in the page cache; peak memory is "
        "resident, memory-mapped file pages included.",
        f"```bash\n{command}\n```",
        "\n".join(f"* {name}: {text}" for name, text in machine.items()),
        busy,
        "![Time and memory along every axis](scaling.svg)",
        markdown_table(head, rows),
        "## Growth: the exponent b in time = a x^b",
        "0 is flat, 1 proportional. What every run takes pulls small screens to 0.",
        markdown_table(("axis", "operation", "operation, s", "CPU, s", "peak MB"), slopes),
    ]
    measured = costs(found)
    if measured:
        parts += [
            "## Larger screens",
            "Projected, not run: nanoseconds of a further value, from the two screens of most "
            f"cells above, for 8,248 genes at 20 % above 0, reading at {DISK_RATE / 1e9:.1f} GB/s. "
            "The slower of disk and computing is named.",
            cost_table(measured),
            projection_table(measured),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _per_value(one: Found) -> str:
    return number(one.seconds / one.n_stored * 1e9)


def plot(found: Sequence[Found], path: Path) -> None:
    """Draw time (above) and peak memory (below) along every axis, both scales logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "crispyx"
    from matplotlib import pyplot as plt

    axes_names = list(dict.fromkeys(one.axis for one in found))
    figure, axes = plt.subplots(
        2,
        len(axes_names),
        figsize=(2.4 * len(axes_names), 4.6),
        layout="constrained",
        squeeze=False,
    )
    for column, axis in enumerate(axes_names):
        for operation in OPERATIONS:
            chosen = [
                one
                for one in found
                if (one.axis, one.operation) == (axis, operation) and not one.error
            ]
            x = [one.value for one in chosen]
            axes[0, column].plot(x, [one.seconds for one in chosen], "o-", label=operation)
            axes[1, column].plot(x, [one.peak_mb for one in chosen], "o-", label=operation)
        axes[1, column].set_xlabel(axis.replace("_gb", " limit, GB"))
        for row in (0, 1):
            axes[row, column].set(xscale="log", yscale="log")
            axes[row, column].grid(color="0.92")
    axes[0, 0].set_ylabel("operation, s")
    axes[1, 0].set_ylabel("peak memory, MB")
    axes[0, 0].legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
