"""The steps of a run: what each reads, writes and depends on; done ones are left alone."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from crispyx._version import __version__
from crispyx.cli.run.configuration import FUNCTIONS, METHODS, Configuration
from crispyx.cli.run.costs import N_SPLITS, Cost, Size, cost_of
from crispyx.cli.run.journal import Journal, key_of
from crispyx.errors import CheckpointError, OutputExistsError

CALLS = "guide_calls.h5ad"
FILES = {
    "guides": CALLS,
    "join": "with_guides.h5ad",
    "qc": "filtered.h5ad",
    "normalize": "normalized.h5ad",
    "calibration": "calibration.h5ad",
    "report": "report.html",
}
RESULTS = {"wilcoxon": "wilcoxon.h5ad", "t-test": "t_test.h5ad", "nb-glm": "nb_glm.h5ad"}
IN_PLACE = ("pca", "neighbors", "umap")
TEXTS = {
    "guides": "Call the guides of every cell",
    "join": "Join calls and expression",
    "qc": "Keep cells, perturbations and genes with enough counts",
    "normalize": "Normalize and take log(1 + x)",
    "pca": "Principal components",
    "neighbors": "Graph of nearest cells",
    "umap": "UMAP",
    "de": "Compare every perturbation with the control",
    "calibration": "Test control cells against control cells",
    "report": "Write the report",
}


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes
    ----------
    name : str
        Section of the file.
    source, output : pathlib.Path
        What it reads, and writes or adds to.
    parameters : dict
        What the section says.
    after : tuple of str
        Steps whose results it uses.
    key : str
        Changes with parameters, inputs and the keys of the steps before.
    """

    name: str
    source: Path
    output: Path
    parameters: dict[str, Any]
    after: tuple[str, ...]
    key: str

    @property
    def text(self) -> str:
        """What it does, in words."""
        return TEXTS[self.name]


@dataclass(frozen=True)
class Planned:
    """A step, whether it is done already, and what it takes otherwise."""

    step: Step
    done: bool
    cost: Cost


def steps_of(configuration: Configuration) -> list[Step]:
    """Return the steps in order."""
    folder, chosen = configuration.output, configuration.sections
    made: dict[str, Step] = {}
    last: tuple[str, ...] = ()

    def add(name: str, source: Path, output: str, after: tuple[str, ...]) -> Path:
        before = "".join(made[one].key for one in after)
        outside = [one for one in (source,) if one.parent != folder]
        parameters = chosen[name]
        said = {**parameters, "screen": dict(configuration.screen), "version": __version__}
        if name == "de":
            said["method"] = configuration.method
        outside += _named(configuration, name)
        key = key_of(name, _without_resources(said), outside, before)
        made[name] = Step(name, source, folder / output, parameters, after, key)
        return folder / output

    counts = configuration.expression
    if "guides" in chosen and configuration.guides is not None:
        add("guides", configuration.guides, FILES["guides"], ())
        counts, last = add("join", counts, FILES["join"], ("guides",)), ("join",)
    if "qc" in chosen:
        counts, last = add("qc", counts, FILES["qc"], last), ("qc",)
    logged, source_of = counts, last
    if "normalize" in chosen:
        logged, source_of = add("normalize", counts, FILES["normalize"], last), ("normalize",)
    before = source_of
    for name in IN_PLACE:
        # Adding to the user's own file is not for a pipeline to do.
        if name in chosen and logged.parent == folder:
            add(name, logged, logged.name, before)
            before = (name,)
    if configuration.method == "nb-glm":
        logged, source_of = counts, last
    if "calibration" in chosen:
        add("calibration", counts, FILES["calibration"], last)
    result = add("de", logged, RESULTS[configuration.method], source_of)
    if "report" in chosen:
        add("report", result, FILES["report"], tuple(made))
    return list(made.values())


def plan(
    steps: list[Step], journal: Journal, method: str, size: Size, budget: float
) -> list[Planned]:
    """Return every step with its state and cost."""
    done: dict[str, bool] = {}
    planned = []
    for step in steps:
        current = all(done[name] for name in step.after)
        done[step.name] = current and journal.holds(step.name, step.key, [step.output])
        splits = step.parameters.get("n_splits", N_SPLITS)
        cost = cost_of(step.name, method, size, budget, int(splits))
        planned.append(Planned(step, done[step.name], cost))
    return planned


def run_steps(
    configuration: Configuration,
    planned: list[Planned],
    journal: Journal,
    *,
    force: bool,
    say: Callable[[str], None],
) -> Iterator[tuple[str, float | None]]:
    """Do what is not done, and yield each step with its seconds, None for one left alone.

    Raises
    ------
    OutputExistsError
        A file that no run made stands where a result would go.
    """
    for one in planned:
        strange = one.step.output.exists() and not journal.made(one.step.output)
        if strange and not force:
            raise OutputExistsError(
                f"{str(one.step.output)!r} was not made by a run; give another output folder, or "
                "--force to replace it"
            )
    for number, one in enumerate(planned, 1):
        step = one.step
        head = f"[{number}/{len(planned)}] {step.text}"
        if one.done:
            say(f"{head}: done before")
            yield step.name, None
            continue
        say(head)
        start = time.perf_counter()
        again = journal.interrupted(step.name, step.key)
        journal.begin(step.name, step.key, [step.output])
        do_step(configuration, step, resume=again)
        journal.end(step.name, step.key, [step.output])
        seconds = time.perf_counter() - start
        say(f"      {seconds:.1f} s -> {step.output.name}")
        yield step.name, seconds


def do_step(configuration: Configuration, step: Step, *, resume: bool) -> None:
    """Do a step, from its checkpoint with ``resume``."""
    if step.name == "guides":
        _call_guides(step)
        return
    home, name = (
        ("crispyx.de", METHODS[configuration.method]) if step.name == "de" else FUNCTIONS[step.name]
    )
    function = getattr(import_module(home), name)
    known = inspect.signature(function).parameters
    arguments = {**_shared(configuration, known, step.name), **step.parameters}
    if step.name == "join":
        arguments = _joined(configuration, arguments) | {"calls": step.output.with_name(CALLS)}
    if step.name == "report":
        arguments |= _pages(configuration, step)
    if "output_path" in known:
        arguments["output_path"] = step.output
        # What stands there is an earlier run's, of other parameters.
        arguments["force"] = True
    if "resume" in known and resume:
        try:
            function(step.source, **arguments | {"resume": True})
            return
        except CheckpointError:
            # Made for an input that has been made anew since.
            arguments["resume"] = False
    function(step.source, **arguments)


def _shared(configuration: Configuration, known: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the values of [screen] that a function takes, and silence where it would speak."""
    screen = configuration.screen
    shared: dict[str, Any] = {"perturbation_column": column_of(configuration)}
    shared |= {key: screen[key] for key in ("control_label", "gene_name_column") if key in screen}
    if name == "report":
        shared = {}
    if "overwrite" in known:
        shared["overwrite"] = True
    return {key: value for key, value in shared.items() if key in known} | (
        {"verbose": False} if "verbose" in known else {}
    )


def column_of(configuration: Configuration) -> str:
    """Return the obs column of labels."""
    return str(configuration.screen.get("perturbation_column", "perturbation"))


def _call_guides(step: Step) -> None:
    from crispyx._io.atomic import atomic_path
    from crispyx._io.writer import write_anndata
    from crispyx.guides import assign

    calls = assign(step.source, **step.parameters)
    with atomic_path(step.output) as work:
        write_anndata(calls, work)


def _joined(configuration: Configuration, arguments: dict[str, Any]) -> dict[str, Any]:
    targets = arguments.get("targets")
    file = None if targets is None else _table_file(configuration, targets)
    if file is not None:
        arguments["targets"] = _read_targets(file)
    return arguments


def _table_file(configuration: Configuration, targets: Any) -> Path | None:
    is_file = isinstance(targets, str) and targets.endswith((".csv", ".tsv"))
    return configuration.path.parent / targets if is_file else None


def _named(configuration: Configuration, name: str) -> list[Path]:
    """Return further files that a step reads."""
    if name != "join":
        return []
    file = _table_file(configuration, configuration.sections["join"].get("targets"))
    return [] if file is None or not file.is_file() else [file]


def _read_targets(path: Path) -> dict[str, str]:
    from crispyx._io.csv_text import read_csv_text
    from crispyx.errors import InputError, MissingFileError

    if not path.is_file():
        raise MissingFileError(f"[join] targets: {str(path)!r} does not exist")
    table = read_csv_text(path, "\t" if path.suffix == ".tsv" else ",")
    if not {"guide", "target"} <= set(table):
        raise InputError(
            f"[join] targets: {str(path)!r} has the columns {', '.join(map(str, table))}; it needs "
            "guide and target"
        )
    return dict(zip(table["guide"], table["target"], strict=True))


def _pages(configuration: Configuration, step: Step) -> dict[str, Any]:
    folder, chosen = step.output.parent, configuration.sections
    pages: dict[str, Any] = {}
    if "guides" in chosen:
        pages["calls"] = folder / FILES["guides"]
    if "qc" in chosen:
        before = folder / FILES["join"] if "join" in chosen else configuration.expression
        pages |= {"screen": before, "filtered": folder / FILES["qc"]}
    if "normalize" in chosen:
        pages["cells"] = folder / FILES["normalize"]
    if "calibration" in chosen:
        pages["calibration"] = folder / FILES["calibration"]
    if "title" in configuration.screen:
        pages["title"] = configuration.screen["title"]
    return pages


def _without_resources(said: dict[str, Any]) -> dict[str, Any]:
    """Leave out what changes no number."""
    screen = {k: v for k, v in said["screen"].items() if k not in ("n_jobs", "memory_limit_gb")}
    return said | {"screen": screen}
