"""Modalities of MuData: several AnnData in one ``.h5mu`` file, or in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crispyx._io.annotations import file_annotations, plain_column
from crispyx._io.columns import KIND_COLUMN
from crispyx._io.tenx import GENE_FEATURES
from crispyx.errors import InputError

EXPRESSION_NAMES = ("rna", "gex", "gene_expression", "gene expression", "expression", "genes")


def is_mudata_file(file: h5py.File) -> bool:
    """Tell whether an HDF5 file holds modalities."""
    return isinstance(file.get("mod"), h5py.Group) and "X" not in file


def modalities_in_memory(data: Any) -> Mapping[str, Any] | None:
    """Return the modalities of a MuData in memory; None for anything else."""
    # Asked in this order: a crispyx.AnnData would open its file to look for another attribute.
    if getattr(data, "isbacked", None) is not False:
        return None
    found = getattr(data, "mod", None)
    return found if isinstance(found, Mapping) else None


def kinds_in_file(file: h5py.File, path: Path) -> dict[str, set[str]]:
    """Return the kinds of features of every modality, none where they are not named."""
    kinds = {}
    for name, group in file["mod"].items():
        var = file_annotations(group, "var", f"{path} [mod/{name}]") if "var" in group else None
        named = var is not None and KIND_COLUMN in var.columns
        kinds[name] = _distinct(var.column(KIND_COLUMN)) if var is not None and named else set()
    return kinds


def kinds_in_memory(modalities: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the kinds of features of every modality, none where they are not named."""
    return {
        name: _distinct(plain_column(adata.var[KIND_COLUMN])) if KIND_COLUMN in adata.var else set()
        for name, adata in modalities.items()
    }


def _distinct(values: np.ndarray) -> set[str]:
    return {str(value) for value in values}


def choose_modality(kinds: Mapping[str, set[str]], modality: str | None, where: str) -> str:
    """Return the modality asked for, or that of gene expression.

    Parameters
    ----------
    kinds : mapping of str to set of str
        Modalities with their kinds of features.
    modality : str or None
        Name; None takes the only one, else the one that holds genes, else the one named so.
    where : str
        File, for messages.

    Raises
    ------
    InputError
        No such modality, or no way to tell which one is meant.
    """
    if modality is not None:
        if modality not in kinds:
            raise InputError(f"{where} has no modality {modality!r}; it has {_listed(kinds)}")
        return modality
    for found in (
        list(kinds),
        [name for name, held in kinds.items() if GENE_FEATURES in held],
        [name for name in kinds if name.lower() in EXPRESSION_NAMES],
    ):
        if len(found) == 1:
            return found[0]
    raise InputError(
        f"{where} has the modalities {_listed(kinds)}, and none stands out as gene expression; "
        f"name one in the path: '{where}/{next(iter(kinds), 'rna')}'"
    )


def _listed(kinds: Mapping[str, set[str]]) -> str:
    return ", ".join(map(repr, kinds)) or "none"
