"""Which screen the demo runs on, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crispyx.datasets import Dataset, schraivogel, simulate_screen
from crispyx.errors import MissingFileError

DOWNLOAD_TIMEOUT = 10.0
N_CELLS, N_GENES, N_PERTURBATIONS = 8000, 600, 24
LIBRARY_SIZE = 3000.0
SEED = 2020

# The guides against enhancers are perturbations of their own, named after the enhancer and a
# letter; the genes the enhancers act on are those of Schraivogel et al. (2020).
_ENHANCERS = {"GATA1": "GATA1", "HS2": "HBE1", "MYC": "MYC", "ZFPM2": "ZFPM2"}
ENHANCER_GENES = {
    f"{enhancer}-{guide}": gene for enhancer, gene in _ENHANCERS.items() for guide in "ABCD"
}


@dataclass(frozen=True)
class ChosenScreen:
    """A screen, with what the reader should know about the choice.

    ``reason`` says which data it is and why, ``target_genes`` names the gene of perturbations that
    are not called after it.
    """

    dataset: Dataset
    reason: str
    target_genes: dict[str, str]

    @property
    def simulated(self) -> bool:
        """The counts are simulated."""
        return self.dataset.source == "simulated"


def choose_screen(choice: str, simulated_folder: Callable[[], Path]) -> ChosenScreen:
    """Return the screen asked for; ``auto`` falls back on a simulated one.

    Parameters
    ----------
    choice : {"auto", "schraivogel", "simulated"}
        What the user asked for.
    simulated_folder : callable
        Asked for the folder of a simulated screen when one is needed.

    Raises
    ------
    MissingFileError
        ``schraivogel`` was asked for and cannot be had.
    """
    if choice == "simulated":
        return _simulated(simulated_folder(), "Simulated data, as asked for")
    try:
        dataset = schraivogel(timeout=DOWNLOAD_TIMEOUT)
    except MissingFileError as error:
        if choice == "schraivogel":
            raise
        return _simulated(
            simulated_folder(),
            f"Simulated data, because the real screen cannot be had here: {in_short(error)}",
        )
    where = {
        "CRISPYX_DATA_DIR": "read from the folder that CRISPYX_DATA_DIR names",
        "download": "the published files, downloaded and checked",
    }[dataset.source]
    reason = f"Real data: the screen of Schraivogel et al. (2020), {where}"
    return ChosenScreen(dataset, reason, ENHANCER_GENES)


def in_short(error: MissingFileError) -> str:
    """Return what went wrong without addresses, asides and ways out.

    The whole message is what ``--data schraivogel`` ends with.
    """
    text = " ".join(str(error).split()).partition(". Try again")[0]
    text = text.removeprefix("data set 'schraivogel': ")
    text = re.sub(r" \([^)]*\)", "", text)
    return re.sub(r"https?://([^/\s]+)[^\s:]*", r"\1", text)


def _simulated(folder: Path, reason: str) -> ChosenScreen:
    dataset = simulate_screen(
        folder,
        n_cells=N_CELLS,
        n_genes=N_GENES,
        n_perturbations=N_PERTURBATIONS,
        library_size=LIBRARY_SIZE,
        seed=SEED,
        overwrite=True,
    )
    return ChosenScreen(dataset, reason, {})
