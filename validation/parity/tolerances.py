"""How much may differ, and why: ``tolerances.toml`` and ``semantics.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1]
MEASURES = ("exact", "absolute", "relative", "mixed", "log")


@dataclass(frozen=True)
class Tolerance:
    """What may differ in one quantity.

    Attributes
    ----------
    measure : {"exact", "absolute", "relative", "mixed", "log"}
        See :func:`validation.parity.check.differences`.
    outside : float
        Largest difference from the outside tool.
    engines : float
        Largest difference between reference and kernels.
    reason : str
        Why so much.
    share : float
        Share of elements that may be beyond ``outside``.
    """

    measure: str
    outside: float
    engines: float
    reason: str
    share: float = 0.0


@dataclass(frozen=True)
class Tolerances:
    """All tolerances, by method, quantity and, where it differs, peer."""

    tables: Mapping[str, Mapping[str, Mapping[str, object]]]

    def of(self, method: str, quantity: str, peer: str) -> Tolerance:
        """Return the tolerance of a quantity against a peer.

        Raises
        ------
        KeyError
            There is none.
        """
        try:
            table = dict(self.tables[method][quantity])
        except KeyError:
            raise KeyError(f"tolerances.toml has no [{method}.{quantity}]") from None
        of_peer = table.pop(peer, {})
        own = {key: value for key, value in table.items() if not isinstance(value, dict)}
        return Tolerance(**(own | of_peer))  # type: ignore[operator, arg-type]


def load_tolerances(path: Path = FOLDER / "tolerances.toml") -> Tolerances:
    """Return the tolerances of a file."""
    return Tolerances(tomllib.loads(path.read_text(encoding="utf-8")))


def load_semantics(path: Path = FOLDER / "semantics.toml") -> dict[str, str]:
    """Return every explanation by its key."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return {key: " ".join(entry["explanation"].split()) for key, entry in table.items()}
