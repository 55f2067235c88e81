"""What the steps of ``crispyx run`` take: ``python -m validation.plan_costs``.

Every step runs in a process of its own, two threads, on simulated screens of growing size. The
rates of ``crispyx.cli.run.costs`` are fitted to seconds and to resident memory, not negative, with
the least squared relative errors; what they leave unexplained is printed beside them. Seconds are
the processor time of the main thread, or half of all threads' where that is more: what two free
cores would take, whatever else the machine is doing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from crispyx.cli.run import costs

# Cells, genes, perturbations, share of values above 0 by the mean of log means.
SCREENS = (
    (3_000, 1_000, 20, -3.0),
    (8_000, 1_800, 60, -3.0),
    (15_000, 1_500, 100, -2.0),
    (8_000, 5_000, 100, -3.0),
    (3_000, 3_000, 30, -3.0),
)
N_SPLITS = 2  # of the calibration
METHODS = ("wilcoxon", "t-test", "nb-glm")
# Medians of docs/benchmarks.md: step, cells, perturbations, stored values (8,000 genes), seconds,
# peak memory of the process. The largest screen: half of the processor time; it had 4 GB.
PUBLISHED = (
    ("wilcoxon", 100_000, 1_000, 80_600_000, 2.4, 1.02e9),
    ("wilcoxon", 1_000_000, 5_000, 805_000_000, 30.4, None),
    ("t-test", 100_000, 1_000, 80_600_000, 2.8, 1.04e9),
    ("qc", 100_000, 1_000, 80_600_000, 2.1, 0.26e9),
    ("normalize", 100_000, 1_000, 80_600_000, 1.1, 0.13e9),
    ("nb-glm", 20_000, 100, 16_100_000, 3.0, 0.36e9),
)
# What each kind of step goes by; those of seconds, of memory and of files.
SECONDS: Mapping[str, Sequence[str]] = {
    "guides": ("steps", "guide counts", "guides"),
    "join": ("steps", "values"),
    "qc": ("steps", "values"),
    "normalize": ("steps", "values"),
    "pca, covariance": ("steps", "values", "products"),
    "pca, iterated": ("steps", "values"),
    "neighbors": ("steps", "cells"),
    "umap": ("steps", "cells", "moves"),
    "wilcoxon": ("steps", "values", "pairs"),
    "t-test": ("steps", "values", "pairs"),
    "nb-glm": ("steps", "values", "pairs"),
    "calibration": ("steps", "splits", "split values", "split pairs"),
    "report": ("steps", "pairs", "perturbations"),
}
MEMORY: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(SECONDS, ("steps", "values")),
    "guides": ("steps", "guide counts"),
    "neighbors": ("steps", "cells"),
    "umap": ("steps", "cells"),
    "calibration": ("steps", "values"),
    "report": ("steps", "pairs"),
}
DISK: Mapping[str, Sequence[str]] = {
    "guides": ("steps", "cells"),
    "join": ("file", "cells"),
    "qc": ("values",),
    "normalize": ("values",),
    "pca, covariance": ("steps", "cells"),
    "pca, iterated": ("steps", "cells"),
    "neighbors": ("cells",),
    "umap": ("cells",),
    **dict.fromkeys(METHODS, ("steps", "pairs")),
    "calibration": ("steps",),
    "report": ("steps", "pairs", "perturbations"),
}


@dataclass(frozen=True)
class Taken:
    """A step on one screen: seconds of two free cores, bytes of memory beyond imports, of files."""

    screen: int
    kind: str
    seconds: float
    memory: float
    disk: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, fit and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m validation.plan_costs", description=__doc__)
    parser.add_argument("--screens", type=int, nargs="*", default=range(len(SCREENS)))
    parser.add_argument("--without-layout", action="store_true", help="no neighbors, no UMAP")
    parser.add_argument("--output", type=Path, help="what was measured, also before, as JSON")
    parser.add_argument("--child", nargs=2, metavar=("FILE", "STEP"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(_one_step(Path(options.child[0]), options.child[1])))
        return 0
    sizes: dict[int, costs.Size] = {}
    taken: list[Taken] = []
    if options.output and options.output.exists():
        before = json.loads(options.output.read_text(encoding="utf-8"))
        sizes = {int(number): costs.Size(**size) for number, size in before["sizes"].items()}
        taken = [Taken(**one) for one in before["taken"]]
    for number in options.screens:
        with tempfile.TemporaryDirectory() as folder:
            sizes[number], found = _screen(number, Path(folder), not options.without_layout)
        taken += found
        print(*(f"{one.kind}: {one.seconds:.2f} s" for one in found), sep=", ", flush=True)
        if options.output:
            sized = {number: asdict(size) for number, size in sizes.items()}
            facts = {"sizes": sized, "taken": [asdict(one) for one in taken]}
            options.output.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    report(sizes, taken)
    return 0


def report(sizes: Mapping[int, costs.Size], taken: Sequence[Taken]) -> None:
    """Print the rates, and by how much each step differs from them."""
    for title, rates, quantity in (
        ("SECONDS", SECONDS, "seconds"),
        ("MEMORY", MEMORY, "memory"),
        ("DISK", DISK, "disk"),
    ):
        print(f"\n{title}")
        for kind, names in rates.items():
            of_kind = [one for one in taken if one.kind == kind]
            found, ratio = fitted(sizes, of_kind, quantity, names)
            shown = ", ".join(f'"{name}": {rate:.3g}' for name, rate in found.items())
            spread = ", ".join(f"{one:.2f}" for one in ratio)
            print(f'    "{kind}": {{{shown}}},  # fitted / measured: {spread}')


def fitted(
    sizes: Mapping[int, costs.Size], taken: Sequence[Taken], quantity: str, names: Sequence[str]
) -> tuple[dict[str, float], np.ndarray]:
    """Return the rates of one kind of step, and fitted over measured values."""
    values = [max(getattr(one, quantity), 1e-9) for one in taken]
    terms = [costs.terms_of(sizes[one.screen], N_SPLITS) for one in taken]
    for kind, n_cells, n_perturbations, n_stored, seconds, peak in PUBLISHED:
        known = {"seconds": seconds, "memory": peak and peak - costs.PROCESS}.get(quantity)
        if known and taken and taken[0].kind == kind:
            size = costs.Size(n_cells, 8_000, n_stored, 0, n_perturbations, 0.0, 0, 0)
            values, terms = [*values, known], [*terms, costs.terms_of(size)]
    design = np.array([[of[name] for name in names] for of in terms]).reshape(-1, len(names))
    relative = design / np.array(values)[:, None]
    scale = np.maximum(relative.max(axis=0, initial=1e-300), 1e-300)
    rates = nnls(relative / scale, np.ones(len(values)))[0] / scale
    return dict(zip(names, rates.tolist(), strict=True)), relative @ rates


def _screen(number: int, folder: Path, with_layout: bool) -> tuple[costs.Size, list[Taken]]:
    import crispyx as cx

    n_cells, n_genes, n_perturbations, log_mean = SCREENS[number]
    screen = cx.datasets.simulate_screen(
        folder / "data",
        n_cells=n_cells,
        n_genes=n_genes,
        n_perturbations=n_perturbations,
        gene_log_mean=log_mean,
        dtype="float32",
        seed=number,
    )
    assert screen.guide_to_target is not None
    assert screen.expression is not None
    rows = [f"{guide},{target}" for guide, target in screen.guide_to_target.items()]
    (folder / "targets.csv").write_text("\n".join(["guide,target", *rows]) + "\n")
    found = list(_steps(number, folder, screen, n_genes, with_layout))
    called = costs.size_of(screen.expression, screen.guides, None)
    labelled = costs.size_of(folder / "out" / "with_guides.h5ad", None, "perturbation")
    size = replace(called, n_perturbations=labelled.n_perturbations, control=labelled.control)
    return size, found


def _steps(
    number: int, folder: Path, screen: Any, n_genes: int, with_layout: bool
) -> Iterator[Taken]:
    layout = "" if with_layout else "[neighbors]\nrun = false\n[umap]\nrun = false\n"
    for method in METHODS:
        file = folder / f"{method}.toml"
        calibration = f"[calibration]\nn_splits = {N_SPLITS}\n" if method == METHODS[0] else ""
        file.write_text(
            f'[screen]\nexpression = "{screen.expression}"\nguides = "{screen.guides}"\n'
            'output = "out"\nn_jobs = 2\n[join]\ntargets = "targets.csv"\n'
            "[qc]\nmin_genes = 5\nmin_cells_per_perturbation = 5\nmin_cells_per_gene = 5\n"
            f'[de]\nmethod = "{method}"\n{calibration}{layout}'
        )
        for step in _names(file):
            if method != METHODS[0] and step != "de":
                continue
            before = _bytes_in(folder / "out")
            command = [sys.executable, "-m", __spec__.name, "--child", str(file), step]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, memory = json.loads(told.splitlines()[-1])
            disk = _bytes_in(folder / "out") - before
            yield Taken(number, costs.kind_of(step, method, n_genes), seconds, memory, disk)


def _names(file: Path) -> list[str]:
    from crispyx.cli.run.configuration import read_configuration
    from crispyx.cli.run.pipeline import steps_of

    return [step.name for step in steps_of(read_configuration(file))]


def _bytes_in(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.glob("**/*") if path.is_file()))


def _one_step(file: Path, name: str) -> tuple[float, float]:
    """Do a step; return seconds, and memory beyond what imports take."""
    import crispyx as cx
    from crispyx.cli.run.configuration import read_configuration
    from crispyx.cli.run.pipeline import do_step, steps_of

    configuration = read_configuration(file)
    step = {one.name: one for one in steps_of(configuration)}[name]
    configuration.output.mkdir(exist_ok=True)
    cx.settings.n_threads = 2
    imported = _peak()
    everywhere, here = time.process_time(), time.thread_time()
    do_step(configuration, step, resume=False)
    everywhere, here = time.process_time() - everywhere, time.thread_time() - here
    return max(here, everywhere / 2), _peak() - imported


def _peak() -> float:
    # What getrusage calls the peak includes that of the process which started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * float(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    sys.exit(main())
