"""What the other tools are asked; every module runs in the environment of its tool.

A question is a function ``question(arrays, files, **parameters)`` that returns arrays by name. Only
the standard library, NumPy and the tool itself are imported.
"""

from __future__ import annotations

import json
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path


def main(peer: str, question: str, folder: str) -> None:
    """Answer the question of a folder, into that folder."""
    import numpy as np

    work = Path(folder)
    request = json.loads((work / "request.json").read_text(encoding="utf-8"))
    with np.load(work / "arrays.npz") as stored:
        arrays = dict(stored)
    answer = getattr(import_module(f"validation.parity.answers.{peer}"), question)
    start = time.perf_counter()
    found = answer(arrays, request["files"], **request["given"])
    seconds = time.perf_counter() - start
    np.savez(work / "answer.npz", **found)
    facts = json.dumps({"seconds": seconds, "version": version(peer)})
    (work / "facts.json").write_text(facts, encoding="utf-8")
