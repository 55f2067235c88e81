"""Which label is the control."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from crispyx._io.annotations import as_labels, plain_column
from crispyx.errors import InputError, InputTypeError

CONTROL_NAMES = (
    "ctrl",
    "control",
    "nontarget",
    "nontargeting",
    "non-target",
    "non_target",
    "non-targeting",
    "non_targeting",
    "ntc",
    "scramble",
    "scrambled",
    "safe-harbor",
    "safe_harbor",
    "safeharbor",
    "safe-harbour",
)
SHOWN = 10

_log = logging.getLogger("crispyx.data")


def resolve_control_label(
    labels: Iterable[Any], control_label: str | None, *, verbose: bool = True
) -> str:
    """Return the control label: the one given, else the only one that reads like a control.

    A label equal to a usual name (ctrl, control, non-targeting, NTC, scramble, safe-harbor and
    their spellings; case does not matter) comes first, then one that contains such a name.

    Parameters
    ----------
    labels : iterable of str
        Labels of the cells; repeats and missing values are fine.
    control_label : str or None
        An explicit label is returned unchanged. Where cells of several labels are the control, they
        need one label first, see :func:`crispyx.data.normalise_perturbation_labels`.
    verbose : bool
        Log an inferred label (INFO, logger ``crispyx.data``).

    Returns
    -------
    str
        The label.

    Raises
    ------
    InputError
        No label, or several, read like a control.
    InputTypeError
        Several labels were given.
    """
    if control_label is not None:
        if isinstance(control_label, Iterable) and not isinstance(control_label, str | bytes):
            given = list(map(str, control_label))
            raise InputTypeError(
                f"control_label is the list {_shown(given)}; perturbations are compared with one "
                f"label. {_one_name(given)}"
            )
        return str(control_label)
    values = labels if isinstance(labels, np.ndarray) else plain_column(list(labels))
    known = list(dict.fromkeys(label for label in as_labels(values) if label is not None))
    if not known:
        raise InputError("there are no perturbation labels to find the control among")
    exact = [label for label in known if label.lower() in CONTROL_NAMES]
    similar = [label for label in known if any(name in label.lower() for name in CONTROL_NAMES)]
    found = exact or similar
    if len(found) == 1:
        if verbose:
            _log.info("control label: %r (inferred)", found[0])
        return found[0]
    if found:
        raise InputError(
            f"several labels read like a control: {_shown(found)}; say which with control_label=. "
            f"If all of them are controls: {_one_name(found)}"
        )
    raise InputError(f"no label reads like a control among {_shown(known)}; give control_label=")


def _one_name(labels: list[str]) -> str:
    """Say how several labels become one."""
    shown = repr(labels) if len(labels) <= SHOWN else "[...]"
    return (
        "cx.data.normalise_perturbation_labels(path, column, "
        f"control_aliases={shown}, canonical_control='control') gives their cells one label"
    )


def _shown(labels: list[str]) -> str:
    text = ", ".join(repr(label) for label in labels[:SHOWN])
    return text + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
