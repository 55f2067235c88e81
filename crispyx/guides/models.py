"""The assignment models and the parameters that go with each."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, cast

from crispyx._stats.guide_rules import Rule
from crispyx.errors import InputError

RULES: tuple[Rule, ...] = ("umi", "max", "ratio")
MIXTURES = (
    "poisson_gauss",
    "poisson",
    "neg_binomial",
    "binomial",
    "beta2",
    "beta3",
    "gauss",
    "quantiles",
)
DEFAULT_UMI_THRESHOLD = 5
DEFAULT_RATIO = 0.3


@dataclass(frozen=True)
class GuideModel:
    """A rule with its threshold.

    Attributes
    ----------
    rule : {"umi", "max", "ratio"}
        Name of the model.
    threshold : int or float
        UMIs (``umi``, ``max``: inclusive) or proportion of the cell's UMIs (``ratio``: strict).
    """

    rule: Rule
    threshold: int | float

    @property
    def parameters(self) -> dict[str, int | float]:
        """The threshold under the name it has in :func:`crispyx.guides.assign`."""
        return {"ratio" if self.rule == "ratio" else "umi_threshold": self.threshold}


def resolve_model(
    model: str,
    *,
    min_confidence: float | None,
    quantile: float | None,
    umi_threshold: int | None,
    ratio: float | None,
) -> GuideModel:
    """Check model and parameters together and fill in the defaults.

    Raises
    ------
    InputError
        Unknown or unavailable model; a value out of range; a parameter the model does not use.
    """
    rule = _require_available(model)
    _check_ranges(min_confidence, quantile, umi_threshold, ratio)
    given = {
        "min_confidence": min_confidence,
        "quantile": quantile,
        "umi_threshold": umi_threshold,
        "ratio": ratio,
    }
    used = ("ratio", "min_confidence") if rule == "ratio" else ("umi_threshold",)
    for name, value in given.items():
        if value is not None and name not in used:
            raise InputError(_unused(rule, name, value, used))
    if rule != "ratio":
        default = DEFAULT_UMI_THRESHOLD if rule == "umi" else 0
        return GuideModel(rule, default if umi_threshold is None else int(umi_threshold))
    if ratio is not None and min_confidence is not None:
        raise InputError(
            f"ratio={ratio!r} and min_confidence={min_confidence!r} are the same threshold of the "
            "model 'ratio'; give one of them"
        )
    threshold = min_confidence if ratio is None else ratio
    return GuideModel("ratio", DEFAULT_RATIO if threshold is None else float(threshold))


def _require_available(model: str) -> Rule:
    if model in RULES:
        return cast(Rule, model)
    available = ", ".join(repr(rule) for rule in RULES)
    if model in MIXTURES:
        raise InputError(
            f"model {model!r} is not part of this version of crispyx, which has {available}; "
            "give one of them, such as model='umi'"
        )
    raise InputError(f"model is {model!r}; choose one of {available}")


def _check_ranges(min_confidence: Any, quantile: Any, umi_threshold: Any, ratio: Any) -> None:
    for name, value in (("min_confidence", min_confidence), ("ratio", ratio)):
        if value is not None and not (_is_number(value) and 0 <= value <= 1):
            raise InputError(f"{name} is {value!r}; give a number from 0 to 1")
    if quantile is not None and not (_is_number(quantile) and 0 < quantile <= 1):
        raise InputError(f"quantile is {quantile!r}; give a number above 0 and up to 1")
    if umi_threshold is not None and not (
        isinstance(umi_threshold, Integral)
        and not isinstance(umi_threshold, bool)
        and int(umi_threshold) >= 1
    ):
        raise InputError(f"umi_threshold is {umi_threshold!r}; give a whole number of UMIs >= 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _unused(model: str, name: str, value: Any, used: tuple[str, ...]) -> str:
    reason = (
        "its calls have confidence 1"
        if name == "min_confidence"
        else "it is the parameter of another model"
    )
    return (
        f"the model {model!r} does not use {name} ({value!r} was given): {reason}; leave it out, "
        f"or set {' or '.join(used)}"
    )
