"""Guide counts wherever they are: which modality, which features."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from crispyx._io.source import MatrixSource, modality_kinds, open_source
from crispyx._io.tenx import GUIDE_FEATURES
from crispyx.errors import InputError

GUIDE_NAME = re.compile("crispr|guide|gdo|grna", re.IGNORECASE)


def open_guides(
    data: Any,
    layer: str | None,
    *,
    feature_type: str = GUIDE_FEATURES,
    modality: str | None = None,
) -> MatrixSource:
    """Open the guide counts of a data set without reading them.

    Parameters
    ----------
    data, layer
        As in :func:`crispyx._io.source.open_source`.
    feature_type : str
        Kind of the guide features, where var names kinds.
    modality : str or None
        Modality of MuData. None takes the one that holds guide features, else the one whose name
        speaks of guides.

    Raises
    ------
    InputError
        No features of that kind; several modalities that may be the guides, or none.
    """
    if modality is None:
        kinds, where = modality_kinds(data)
        modality = _guide_modality(kinds, feature_type, where) if kinds else None
    return open_source(data, layer, modality=modality, feature_type=feature_type)


def _guide_modality(kinds: Mapping[str, set[str]], feature_type: str, where: str) -> str:
    holding = [name for name, held in kinds.items() if feature_type in held]
    named = [name for name in kinds if GUIDE_NAME.search(name)]
    for found in (holding, named):
        if len(found) == 1:
            return found[0]
    listed = ", ".join(map(repr, kinds))
    several = holding or named
    what = f"{', '.join(map(repr, several))} may all be" if several else "none is known to hold"
    raise InputError(f"{where} has the modalities {listed}; {what} the guides: give modality=")
