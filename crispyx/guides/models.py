"""The assignment models and the parameters that go with each."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, cast

from crispyx._stats.depth_mixtures import Exposure
from crispyx.errors import InputError

Model = Literal[
    "umi",
    "max",
    "ratio",
    "quantiles",
    "poisson_gauss",
    "gauss",
    "poisson",
    "neg_binomial",
    "binomial",
    "beta2",
    "beta3",
]
HISTOGRAM_MODELS = ("poisson_gauss", "gauss")
DEPTH_MODELS = ("poisson", "neg_binomial", "binomial")
BETA_MODELS = ("beta2", "beta3")
MIXTURES = (*HISTOGRAM_MODELS, *DEPTH_MODELS, *BETA_MODELS)
MODELS = ("umi", "max", "ratio", "quantiles", *MIXTURES)
EXPOSURES = ("consistent", "crispat")
WITH_EXPOSURE = ("poisson", "neg_binomial")
WITH_PRIORS = ("poisson_gauss", *BETA_MODELS)
THRESHOLD_NAME = {"umi": "umi_threshold", "max": "umi_threshold", "ratio": "ratio"} | {
    "quantiles": "quantile"
}
DEFAULT_THRESHOLD = {"umi": 5, "max": 0, "ratio": 0.3, "quantiles": 0.1} | {
    model: 0.5 if model in BETA_MODELS else 0.8 for model in MIXTURES
}


@dataclass(frozen=True)
class GuideModel:
    """A model with its parameters.

    Attributes
    ----------
    rule : str
        Name of the model.
    threshold : int or float
        UMIs (``umi``, ``max``: inclusive), proportion of the cell's UMIs (``ratio``: strict), share
        of the guide's cells (``quantiles``) or posterior probability (mixtures: strict).
    exposure : {"consistent", "crispat"} or None
        Of the models that have it, see :func:`crispyx.guides.assign`.
    priors : bool or None
        Of the models that have them.
    """

    rule: Model
    threshold: int | float
    exposure: Exposure | None = None
    priors: bool | None = None

    @property
    def is_mixture(self) -> bool:
        """Whether calls come from a posterior."""
        return self.rule in MIXTURES

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters under the names they have in :func:`crispyx.guides.assign`."""
        name = THRESHOLD_NAME.get(self.rule, "min_confidence")
        return {name: self.threshold} | self.fit_parameters

    @property
    def fit_parameters(self) -> dict[str, Any]:
        """Parameters of the fit alone."""
        given = {"exposure": self.exposure, "priors": self.priors}
        return {name: value for name, value in given.items() if value is not None}


def resolve_model(
    model: str,
    *,
    min_confidence: float | None = None,
    quantile: float | None = None,
    umi_threshold: int | None = None,
    ratio: float | None = None,
    exposure: str | None = None,
    priors: bool | None = None,
) -> GuideModel:
    """Check model and parameters together and fill in the defaults.

    Raises
    ------
    InputError
        Unknown model; a value out of range; a parameter the model does not use.
    """
    if model not in MODELS:
        raise InputError(f"model is {model!r}; choose one of {', '.join(map(repr, MODELS))}")
    rule = cast(Model, model)
    _check_ranges(min_confidence, quantile, umi_threshold, ratio)
    _check_fit(exposure, priors)
    given = {
        "min_confidence": min_confidence,
        "quantile": quantile,
        "umi_threshold": umi_threshold,
        "ratio": ratio,
        "exposure": exposure,
        "priors": priors,
    }
    used = _used(rule)
    for name, value in given.items():
        if value is not None and name not in used:
            raise InputError(_unused(rule, name, value, used))
    if ratio is not None and min_confidence is not None:
        raise InputError(
            f"ratio={ratio!r} and min_confidence={min_confidence!r} are the same threshold of the "
            "model 'ratio'; give one of them"
        )
    thresholds = [
        given[name]
        for name in used
        if name not in ("exposure", "priors") and given[name] is not None
    ]
    threshold = cast(float, thresholds[0] if thresholds else DEFAULT_THRESHOLD[rule])
    return GuideModel(
        rule,
        int(threshold) if rule in ("umi", "max") else float(threshold),
        cast(Exposure, exposure or "consistent") if rule in WITH_EXPOSURE else None,
        priors is not False if rule in WITH_PRIORS else None,
    )


def _used(rule: Model) -> tuple[str, ...]:
    used: tuple[str, ...] = (THRESHOLD_NAME.get(rule, "min_confidence"),)
    if rule == "ratio":
        used += ("min_confidence",)
    if rule in WITH_EXPOSURE:
        used += ("exposure",)
    if rule in WITH_PRIORS:
        used += ("priors",)
    return used


def _check_fit(exposure: Any, priors: Any) -> None:
    if exposure is not None and exposure not in EXPOSURES:
        raise InputError(f"exposure is {exposure!r}; give 'consistent' or 'crispat'")
    if priors is not None and not isinstance(priors, bool):
        raise InputError(f"priors is {priors!r}; give True or False")


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
        if name == "min_confidence" and model in ("umi", "max")
        else "it is the parameter of another model"
    )
    return (
        f"the model {model!r} does not use {name} ({value!r} was given): {reason}; leave it out, "
        f"or set {' or '.join(used)}"
    )
