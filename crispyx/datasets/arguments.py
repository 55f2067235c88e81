"""Checks of the arguments of the public functions in this package."""

from __future__ import annotations

import math
import numbers
from dataclasses import field, fields
from typing import Any

from crispyx.errors import InputError


def whole(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """Return a whole number between ``least`` and ``most``, or raise InputError."""
    allowed = f"a whole number >= {least:,}" + ("" if most is None else f" and <= {most:,}")
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{name} is {value!r}; give {allowed}")
    found = int(value)
    if found < least or (most is not None and found > most):
        raise InputError(f"{name} is {found:,}; give {allowed}")
    return found


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
) -> float:
    """Return a finite number within the bounds (inclusive, exclusive), or raise InputError."""
    bounds = {">=": least, ">": above, "<=": most}
    given = [f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None]
    allowed = " ".join(["a finite number", " and ".join(given)]).strip()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; give {allowed}")
    found = float(value)
    if (
        (least is not None and found < least)
        or (above is not None and found <= above)
        or (most is not None and found > most)
    ):
        raise InputError(f"{name} is {value!r}; give {allowed}")
    return found


def choice(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """Return ``value`` if it is one of ``allowed``, or raise InputError."""
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; give one of {', '.join(map(repr, allowed))}")
    return value


def bounded(**bounds: Any) -> Any:
    """Declare a dataclass field as a number within bounds; see :func:`number`."""
    return field(metadata={"check": number, "bounds": bounds})


def counted(**bounds: Any) -> Any:
    """Declare a dataclass field as a whole number within bounds; see :func:`whole`."""
    return field(metadata={"check": whole, "bounds": bounds})


def one_of(*allowed: Any) -> Any:
    """Declare a dataclass field as one of some values."""
    return field(metadata={"check": choice, "bounds": {"allowed": allowed}})


class Checked:
    """Base of dataclasses whose fields are checked on creation, None passing where optional."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            bounds = dict(item.metadata["bounds"])
            if bounds.pop("optional", False) and value is None:
                continue
            checked = item.metadata["check"](item.name, value, **bounds)
            object.__setattr__(self, item.name, checked)
