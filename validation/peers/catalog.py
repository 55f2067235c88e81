"""The tools of ``peers.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CATALOG = Path(__file__).with_name("peers.toml")


@dataclass(frozen=True)
class Peer:
    """An outside tool.

    Attributes
    ----------
    name : str
        Name of the tool, of its distribution and of its adapter in ``validation.benchmarks.tools``.
    requirements : tuple of str
        What is installed, pinned.
    constraints : tuple of str
        Versions of what the tools share.
    note : str
        What to know when its figures are read.
    """

    name: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    note: str = ""

    @property
    def pins(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All that decides what is installed."""
        return self.requirements, self.constraints


def parse_peers(table: Mapping[str, Any]) -> dict[str, Peer]:
    """Return the peers of a parsed catalog by name.

    Raises
    ------
    ValueError
        A peer's own distribution is not pinned to one version.
    """
    shared = tuple(table.get("constraints", ()))
    peers = {
        name: Peer(name, tuple(entry["requirements"]), shared, entry.get("note", ""))
        for name, entry in table.items()
        if name != "constraints"
    }
    for peer in peers.values():
        if not any(line.startswith(f"{peer.name}==") for line in peer.requirements):
            raise ValueError(
                f"peer {peer.name!r} is not pinned: its requirements are "
                f"{', '.join(peer.requirements)}; add {peer.name}==VERSION"
            )
    return peers


def load_peers(path: Path = CATALOG) -> dict[str, Peer]:
    """Return the peers of a catalog file by name."""
    return parse_peers(tomllib.loads(path.read_text(encoding="utf-8")))
