"""The command line: ``python -m validation``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from validation import kernel_paths, mutants
from validation.benchmarks import executors, generated, guard, scaling
from validation.benchmarks.cases import ALL_PEERS, OPERATIONS, cases
from validation.benchmarks.page import page
from validation.benchmarks.plot import plot_ratios
from validation.benchmarks.screens import SCREENS, screen
from validation.benchmarks.session import Session
from validation.benchmarks.store import Store
from validation.cache import cache_folder
from validation.gallery import write_gallery
from validation.machine import describe_machine, was_busy
from validation.parity import command as parity
from validation.peers.catalog import load_peers
from validation.peers.environments import environment

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m validation", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    peers = commands.add_parser("peers", help="create the environments of the other tools")
    peers.add_argument("names", nargs="*", metavar="NAME", help="tools; all by default")
    peers.set_defaults(run=_peers)
    bench = commands.add_parser("bench", help="compare time, memory and results with other tools")
    bench.add_argument("operation", choices=(*OPERATIONS, "all"))
    bench.add_argument("--screen", action="append", choices=SCREENS, help="repeatable; S and M")
    bench.add_argument("--peers", nargs="+", choices=ALL_PEERS, default=ALL_PEERS)
    bench.add_argument("--repeats", type=int, default=3, help="turns of each comparison (3)")
    bench.add_argument("--threads", type=int, help="2 for expression and 1 for guides by default")
    bench.add_argument("--timeout", type=float, default=900.0, help="seconds of a process (900)")
    bench.add_argument("--slow", action="store_true", help="run what takes minutes, too")
    bench.add_argument("--fresh", action="store_true", help="forget what was measured before")
    bench.add_argument("--output", type=Path, default=Path("benchmark_output"))
    bench.add_argument("--docs", action="store_true", help="write docs/benchmarks.md, too")
    bench.set_defaults(run=_bench)
    gallery = commands.add_parser("gallery", help="draw every figure into docs/gallery.md")
    gallery.add_argument("--docs", type=Path, default=DOCS, help="folder of the page")
    gallery.set_defaults(run=_gallery)
    others = (
        module.add_parser(commands)
        for module in (parity, mutants, scaling, guard, generated, executors)
    )
    for command in (peers, bench, *others):
        command.add_argument("--cache", help="environments and screens; ~/.cache by default")
    return parser


def _peers(options: argparse.Namespace) -> int:
    """Create environments; the exit code is the number of those that could not be made."""
    catalog = load_peers()
    failed = 0
    for name in options.names or catalog:
        made = environment(catalog[name], cache_folder(options.cache))
        failed += made.python is None
        print(f"{name}: {made.python or 'not installed: ' + made.error}", flush=True)
    return failed


def _bench(options: argparse.Namespace) -> int:
    """Run comparisons and write tables, figures and plot; the exit code counts failed ones."""
    cache, folder = cache_folder(options.cache), options.output
    store = Store.open(folder / f"{RESULTS}.json", fresh=options.fresh)
    machine = describe_machine()
    if was_busy(machine):
        print("other processes are running: times will scatter", flush=True)
    store.begin(_command(options), machine)
    screens = tuple(options.screen or ("S", "M"))
    chosen = [
        case
        for case in cases(options.operation, screens, options.threads)
        if case.peer in options.peers
    ]
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="runs-", dir=cache) as outputs:
        session = Session(
            cache=cache,
            outputs=Path(outputs),
            peers=load_peers(),
            store=store,
            repeats=options.repeats,
            timeout=options.timeout,
            slow=options.slow,
        )
        session.run(chosen)
    _write(store, cache, folder)
    if options.docs:
        _write(store, cache, DOCS, "\n".join(kernel_paths.rows()))
    print((folder / f"{RESULTS}.md").read_text(encoding="utf-8"))
    asked = {case.identity for case in chosen}
    return sum(found.is_failure for key, found in store.comparisons.items() if key in asked)


def _gallery(options: argparse.Namespace) -> int:
    """Write the gallery page; the exit code says whether the real screens are there."""
    folder = os.environ.get("CRISPYX_DATA_DIR")
    if not folder:
        print("CRISPYX_DATA_DIR is not set: the folder with the real screens", file=sys.stderr)
        return 1
    print(write_gallery(Path(folder), options.docs))
    return 0


def _command(options: argparse.Namespace) -> str:
    """Return the command with all that decides its figures, not where they go."""
    words = ["python -m validation bench", options.operation]
    words += [f"--screen {name}" for name in options.screen or ()]
    words += [f"--peers {' '.join(options.peers)}"] if options.peers != ALL_PEERS else []
    words += [f"--repeats {options.repeats}"]
    words += [f"--threads {options.threads}"] if options.threads else []
    words += ["--slow"] if options.slow else []
    return " ".join(words)


def _write(store: Store, cache: Path, folder: Path, paths: str = "") -> None:
    """Write page and plot of all that is kept."""
    named = dict.fromkeys(found.data for found in store.comparisons.values() if found.on_screen)
    screens = {name: screen(name, cache) for name in named}
    plot_ratios(store.comparisons.values(), folder / f"{RESULTS}.svg")
    text = page(store, screens, f"{RESULTS}.svg", paths)
    (folder / f"{RESULTS}.md").write_text(text, encoding="utf-8")
