"""From guides to what they target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from crispyx._io.annotations import plain_column
from crispyx.errors import InputError, InputTypeError, MissingColumnError

SHOWN = 3
TARGET_COLUMNS = ("target", "target_gene_name")


def resolve_targets(
    guides: np.ndarray,
    targets: Mapping[str, str] | Callable[[str], str] | None,
    control_guides: Iterable[str] | Callable[[str], bool] | None,
    control_label: str,
) -> dict[str, str]:
    """Return the perturbation of every guide.

    Parameters
    ----------
    guides : numpy.ndarray (n_guides,) str
        Guide names.
    targets : mapping, callable or None
        Target of a guide; None takes the guide's own name.
    control_guides : iterable of str, callable or None
        Guides whose perturbation is ``control_label``, whatever ``targets`` says.
    control_label : str
        Label of the control.

    Raises
    ------
    InputError
        A guide without a target; a control guide that does not exist.
    InputTypeError
        ``targets`` or ``control_guides`` of another kind.
    """
    controls = _controls(guides, control_guides)
    others = [guide for guide in guides if guide not in controls]
    target_of = dict.fromkeys(controls, control_label)
    target_of |= {guide: _target(guide, targets, others) for guide in others}
    without = [guide for guide, target in target_of.items() if not _is_label(target)]
    if without:
        raise InputError(
            f"targets= gives {target_of[without[0]]!r} for guide {without[0]!r}; every guide needs "
            "a target, as text"
        )
    return target_of


def column_targets(
    guides: np.ndarray, var: Any, column: str | None, control_label: str, where: str
) -> dict[str, str] | None:
    """Return the targets that a column of the guides names.

    Parameters
    ----------
    guides : numpy.ndarray (n_guides,) str
        Guide names.
    var : pandas.DataFrame or None
        Columns of the guides.
    column : str or None
        Column; None takes the first of ``target`` and ``target_gene_name`` (Cell Ranger's) that has
        a value for every guide.
    control_label : str
        Label of the control; ``Non-Targeting`` or ``non_targeting`` in the column stand for
        ``non-targeting``.
    where : str
        The calls, for messages.

    Returns
    -------
    dict or None
        None when no column is asked for and there is none.

    Raises
    ------
    MissingColumnError
        The column is not there.
    """
    there = [] if var is None else list(var.columns)
    if column is not None and column not in there:
        raise MissingColumnError(
            f"targets= names the var column {column!r}, which {where} does not have; it has: "
            f"{', '.join(map(repr, there)) or 'none'}"
        )
    for name in TARGET_COLUMNS if column is None else (column,):
        if name not in there:
            continue
        values = plain_column(var[name])
        if column is not None or all(_is_label(value) for value in values):
            control = _alike(control_label)
            labels = [control_label if _alike(v) == control else v for v in values]
            return dict(zip(guides, labels, strict=True))
    return None


def _alike(label: Any) -> str:
    return str(label).lower().replace("_", "-")


def _target(guide: str, targets: Any, guides: list[str]) -> Any:
    if targets is None:
        return guide
    if callable(targets):
        return targets(guide)
    if not isinstance(targets, Mapping):
        raise InputTypeError(
            f"targets is a {type(targets).__name__}; give a dict from guide to target, a "
            "function of the guide's name, or the name of a var column of the calls"
        )
    if guide not in targets:
        without = [name for name in guides if name not in targets]
        raise InputError(
            f"targets= has no entry for {len(without)} of {len(guides)} guides: {_shown(without)}; "
            "add them, or name them in control_guides="
        )
    return targets[guide]


def _controls(guides: np.ndarray, control_guides: Any) -> set[str]:
    if control_guides is None:
        return set()
    if callable(control_guides):
        return {guide for guide in guides if control_guides(guide)}
    if isinstance(control_guides, (str, bytes)) or not isinstance(control_guides, Iterable):
        raise InputTypeError(
            f"control_guides is {control_guides!r}; give a list of guide names, or a function of "
            "the guide's name"
        )
    controls = {str(guide) for guide in control_guides}
    unknown = sorted(controls - set(guides))
    if unknown:
        raise InputError(
            f"control_guides= names {len(unknown)} guides that the calls do not have: "
            f"{_shown(unknown)}; the calls have {_shown(list(guides))}"
        )
    return controls


def _is_label(target: Any) -> bool:
    return isinstance(target, str) and bool(target)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(str(name)) for name in names[:SHOWN]) + more
