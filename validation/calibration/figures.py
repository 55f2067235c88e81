"""Figures of the page: the public tool on the real screens that have a control of their own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import crispyx as cx
from validation.calibration.pools import FILES

SCREENS = {"Papalexi": "guide", "Schraivogel": "guide"}
METHODS = ("t_test", "wilcoxon", "nb_glm", "pydeseq2", "calibrated", "lrt")


def draw(folder: Path, n_splits: int) -> list[str]:
    """Write one figure per screen into a folder; return the lines of the page that show them."""
    lines = []
    for screen, guides in SCREENS.items():
        source = Path(os.environ.get("CRISPYX_DATA_DIR", ".")) / f"{FILES[screen]}.h5ad"
        if not source.exists():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            found = cx.tl.calibration(
                source,
                perturbation_column="perturbation",
                guide_column=guides,
                methods=METHODS,
                n_splits=n_splits,
                output_dir=scratch,
            )
        name = f"calibration_{screen.lower()}.png"
        cx.pl.calibration(found, savepath=folder / name)
        lines.append(f"![{screen}: p-values of control cells against control cells]({name})")
        lines.append("```text\n" + found.summary() + "\n```")
    return lines
