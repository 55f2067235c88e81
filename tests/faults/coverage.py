"""``python -m faults.coverage READER CORPUS [options of libFuzzer]``: fuzzing guided by coverage.

Bytes that reach new lines of crispyx are kept in the folder CORPUS and changed further. The first
that end in anything but numbers or an error that names the file are written as ``crash-*``; where
they show a fault they belong, once it is mended, into ``tests/faults/found``. Needs atheris, see
``make fuzz-coverage``.
"""

from __future__ import annotations

import pkgutil
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import atheris

# What is imported where it is first used would not be watched.
READING = ("_io", "_jobs", "data", "de", "guides", "cli.run")
with atheris.instrument_imports(include=["crispyx"]):
    for room in READING:
        package = import_module(f"crispyx.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"crispyx.{room}."):
            import_module(module.name)
    from faults.readers import seeds, try_reader


def main() -> None:
    name, corpus = sys.argv[1], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        for number, content in enumerate(seeds(name, folder)):
            (corpus / f"seed-{number}").write_bytes(content)

    def one(content: bytes) -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            try_reader(name, content, folder)
        finally:
            shutil.rmtree(folder)

    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[3:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
