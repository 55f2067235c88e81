"""The data set that results are added to: in memory, on disk, or a copy of either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crispyx._io.atomic import atomic_path
from crispyx._io.copies import copy_file
from crispyx._io.disk import reporting_full_disk
from crispyx._io.edits import replace_elements
from crispyx._io.elements import element_names, read_element
from crispyx._io.paths import prepare_output, resolve_data_path, resolve_output_path
from crispyx._jobs.outputs import can_reuse
from crispyx._run.fingerprint import file_identity, fingerprint
from crispyx._run.lock import writer_lock
from crispyx.data import AnnData
from crispyx.errors import InputError

Slots = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Target:
    """Where results go.

    Attributes
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        What the user gave.
    path : pathlib.Path or None
        Its file; None for an AnnData in memory.
    """

    data: Any
    path: Path | None

    def entry(self, slot: str, name: str) -> Any:
        """Return one entry of obsm, obsp or uns, read whole; None when absent."""
        if self.path is None:
            return getattr(self.data, slot).get(name)
        if name not in element_names(self.path, slot):
            return None
        return read_element(self.path, f"{slot}/{name}")

    def names(self, slot: str) -> list[str]:
        """Return the names of the entries of obsm, obsp or uns."""
        if self.path is None:
            return list(getattr(self.data, slot))
        return element_names(self.path, slot)

    def add(self, slots: Slots) -> None:
        """Write or replace entries, all or none; an open file is closed and opened again."""
        if self.path is None:
            for slot, entries in slots.items():
                for name, value in entries.items():
                    getattr(self.data, slot)[name] = value
            return
        backed = _open_file_of(self.data)
        if isinstance(self.data, AnnData):
            self.data.close()
        elif backed is not None:
            backed.file.close()
        try:
            replace_elements(self.path, _elements(slots, self.path))
        finally:
            if backed is not None:
                backed.file.open()
        if backed is not None:
            Target(backed, None).add(slots)

    def added_to_copy(self, slots: Slots, kind: str, parameters: Mapping[str, Any]) -> Any:
        """Return a copy with the entries: in memory, or a file ``crispyx_<kind>.h5ad`` beside.

        Raises
        ------
        OutputExistsError
            A file of that name is not such a copy of this input.
        """
        if self.path is None:
            copied = Target(self.data.copy(), None)
            copied.add(slots)
            return copied.data
        output = resolve_output_path(self.path, suffix=kind)
        identity = fingerprint(kind, file_identity(self.path), parameters)
        if can_reuse(output, identity, force=False):
            return AnnData(output)
        prepare_output(output, (self.path,), file_identity(self.path)["size"])
        with (
            reporting_full_disk(output.parent, str(output)),
            writer_lock(output),
            atomic_path(output) as draft,
        ):
            copy_file(self.path, draft)
            replace_elements(draft, _elements(slots, draft), identity)
        return AnnData(output)


def resolve_target(data: Any) -> Target:
    """Return where the results for a data set go.

    Raises
    ------
    InputTypeError, MissingFileError, InputError
        Not a data set; no such file; a view of another AnnData.
    """
    if getattr(data, "isbacked", None) is False:
        if data.is_view:
            raise InputError("this AnnData is a view of another one; give a copy: adata.copy()")
        if hasattr(data.X, "store") or hasattr(data.X, "group"):
            raise InputError("the matrix of this AnnData stays in a file or store; give its path")
        return Target(data, None)
    return Target(data, resolve_data_path(data))


def _elements(slots: Slots, path: Path) -> dict[str, Any]:
    """Return what is written into a file; var is one table, which gains columns."""
    elements = {
        f"{slot}/{name}": value
        for slot, entries in slots.items()
        for name, value in entries.items()
        if slot != "var"
    }
    if "var" in slots:
        elements["var"] = read_element(path, "var").assign(**slots["var"])
    return elements


def _open_file_of(data: Any) -> Any:
    """Return the backed anndata.AnnData of the user, or None."""
    is_backed = getattr(data, "isbacked", False) and not isinstance(data, AnnData)
    return data if is_backed else None
