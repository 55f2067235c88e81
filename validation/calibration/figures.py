"""Figures of the page: the public tool on the real screens that have a control of their own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import crispyx as cx
from validation.calibration.pools import FILES

SCREENS = {"Papalexi": "guide", "Schraivogel": "guide"}
# The clamp of PyDESeq2's iteration stands for its preset, whose size factors need a gene that all
# cells express: these screens have none.
METHODS = {
    "t-test": {"method": "t_test"},
    "Wilcoxon": {"method": "wilcoxon"},
    "documented default": {"method": "nb_glm"},
    "clamped": {"method": "nb_glm", "optimization_method": "irls", "size_factor_method": "total"},
    "LRT": {"method": "nb_glm", "test": "lrt", "size_factor_method": "total"},
    "calibrated": {"method": "nb_glm", "preset": "calibrated"},
}


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
