"""What a loader or the simulator hands back: paths and facts, no counts in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Source = Literal["CRISPYX_DATA_DIR", "download", "simulated"]


@dataclass(frozen=True, repr=False)
class Dataset:
    """Files of one screen and what an analysis needs to know about them.

    Attributes
    ----------
    name : str
        Name of the data set, such as ``"schraivogel"``.
    expression : pathlib.Path or None
        h5ad file with the counts, cells x genes.
    guides : pathlib.Path or None
        h5ad file with the guide UMI counts, cells x guides; None when there is none of its own
        (see ``guides_obsm``).
    perturbation_column : str or None
        Column of ``expression``'s obs that holds the perturbation of each cell.
    control_label : str or None
        Label of the control cells, and target of the control guides.
    guide_to_target : mapping of str to str, or None
        Target of every guide.
    citation : str
        What to cite.
    source : {"CRISPYX_DATA_DIR", "download", "simulated"}
        Where the files were taken from.
    origin : str
        Who measured the data and how the files were prepared.
    guides_obsm : str or None
        Key of ``expression``'s obsm that holds the guide UMI counts, where they share one file.
    truth : pathlib.Path or None
        h5ad file with the planted effects, perturbations x genes; simulated screens only.
    """

    name: str
    expression: Path | None
    guides: Path | None
    perturbation_column: str | None
    control_label: str | None
    guide_to_target: Mapping[str, str] | None
    citation: str
    source: Source
    origin: str
    guides_obsm: str | None = None
    truth: Path | None = None

    def __repr__(self) -> str:
        rows = {
            "expression": self.expression,
            "guides": self.guides if self.guides_obsm is None else f"obsm[{self.guides_obsm!r}]",
            "perturbation_column": self.perturbation_column,
            "control_label": self.control_label,
            "guide_to_target": (
                None if self.guide_to_target is None else f"{len(self.guide_to_target)} guides"
            ),
            "truth": self.truth,
            "source": self.source,
            "origin": self.origin,
            "citation": self.citation,
        }
        lines = [f"  {key}: {value}" for key, value in rows.items() if value is not None]
        return "\n".join([f"Dataset {self.name!r}", *lines])
