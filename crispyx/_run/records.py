"""Dataclasses as JSON and arrays: nothing that runs code when it is read, as pickle would."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from crispyx.errors import CheckpointError

ROOMS = ("crispyx", "reference")


def to_record(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON holds it; its arrays are put into ``arrays`` under new names.

    Parameters
    ----------
    value : dataclass, named tuple, tuple, list, dict, path, array, number, text or None
        Fields may be any of these.
    arrays : dict of str to numpy.ndarray
        Extended.

    Raises
    ------
    TypeError
        Anything else.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return to_record(value.item(), arrays)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        name = str(len(arrays))
        arrays[name] = value
        return {"array": name}
    named = isinstance(value, tuple) and hasattr(value, "_fields")
    if named or (is_dataclass(value) and not isinstance(value, type)):
        names = value._fields if named else [field.name for field in fields(value)]
        return {
            "class": f"{type(value).__module__}:{type(value).__qualname__}",
            "fields": {name: to_record(getattr(value, name), arrays) for name in names},
        }
    if isinstance(value, (list, tuple)):
        items = [to_record(item, arrays) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {"dict": {str(key): to_record(item, arrays) for key, item in value.items()}}
    raise TypeError(f"a {type(value).__name__} cannot stand in a record")


def from_record(record: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the value that :func:`to_record` wrote.

    Raises
    ------
    CheckpointError
        It names a class that this version does not have.
    """
    if isinstance(record, list):
        return [from_record(item, arrays) for item in record]
    if not isinstance(record, dict):
        return record
    if "class" in record:
        values = {name: from_record(item, arrays) for name, item in record["fields"].items()}
        return _class(record["class"])(**values)
    ((kind, held),) = record.items()
    if kind == "array":
        return arrays[held]
    if kind == "tuple":
        return tuple(from_record(item, arrays) for item in held)
    if kind == "dict":
        return {key: from_record(item, arrays) for key, item in held.items()}
    return {"float": float, "path": Path}[kind](held)


def _class(name: str) -> type:
    module, _, qualified = name.partition(":")
    if module.partition(".")[0] in ROOMS and qualified.isidentifier():
        found = getattr(import_module(module), qualified, None)
        if isinstance(found, type) and (is_dataclass(found) or hasattr(found, "_fields")):
            return found
    raise CheckpointError(f"a record names {name!r}, which this version of crispyx does not have")
