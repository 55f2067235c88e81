"""The assignment models and the parameters that go with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from crispyx._stats.batch_fits import MIN_CELLS
from crispyx._stats.depth_mixtures import Exposure
from crispyx._stats.mixtures import Search
from crispyx.errors import InputError
from crispyx.guides.arguments import check_values

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
WITH_EXPOSURE = ("poisson", "neg_binomial")
WITH_PRIORS = ("poisson_gauss", *DEPTH_MODELS, *BETA_MODELS)
THRESHOLD_NAME = {"umi": "umi_threshold", "max": "umi_threshold", "ratio": "ratio"} | {
    "quantiles": "quantile"
}
DEFAULT_THRESHOLD = {"umi": 5, "max": 0, "ratio": 0.3, "quantiles": 0.1} | {
    model: 0.5 if model in BETA_MODELS else 0.8 for model in MIXTURES
}
KAICHI_THRESHOLD = DEFAULT_THRESHOLD | {"poisson_gauss": 0.5, "gauss": 0.5}
THRESHOLDS = ("min_confidence", "quantile", "umi_threshold", "ratio")
OF_MIXTURES = (
    "n_starts",
    "tolerance",
    "max_iterations",
    "batch_key",
    "min_cells_per_batch",
    "variant",
)


@dataclass(frozen=True)
class GuideModel:
    """A model with its parameters; what is None the model does not have, or takes its default.

    Attributes
    ----------
    rule : str
        Name of the model.
    threshold : int or float
        UMIs (``umi``, ``max``: inclusive), proportion of the cell's UMIs (``ratio``: strict), share
        of the guide's cells (``quantiles``) or posterior probability (mixtures: strict, with
        ``variant="kaichi"`` inclusive).
    min_umi, exposure, priors, n_starts, tolerance, max_iterations, batch_key, variant, cut
        See :func:`crispyx.guides.assign`.
    min_cells_per_batch : int or None
        None without ``batch_key``.
    """

    rule: Model
    threshold: int | float
    min_umi: int | None = None
    exposure: Exposure | None = None
    priors: bool | None = None
    n_starts: int | None = None
    tolerance: float | None = None
    max_iterations: int | None = None
    batch_key: str | None = None
    min_cells_per_batch: int | None = None
    variant: str | None = None
    cut: str | None = None

    @property
    def is_mixture(self) -> bool:
        """Whether calls come from a posterior."""
        return self.rule in MIXTURES

    @property
    def search(self) -> Search:
        """How long EM climbs, and from where."""
        tolerance = Search.tolerance if self.tolerance is None else self.tolerance
        return Search(self.n_starts, tolerance, self.max_iterations)

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters under the names they have in :func:`crispyx.guides.assign`."""
        name = THRESHOLD_NAME.get(self.rule, "min_confidence")
        calling: dict[str, Any] = {"cut": "grid"} if self.cut == "grid" else {name: self.threshold}
        if self.min_umi is not None:
            calling["min_umi"] = self.min_umi
        return calling | self.fit_parameters

    @property
    def fit_parameters(self) -> dict[str, Any]:
        """Parameters of the fit alone."""
        names = ("exposure", "priors", *OF_MIXTURES)
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


def resolve_model(model: str, **given: Any) -> GuideModel:
    """Check model and parameters together and fill in the defaults.

    Parameters
    ----------
    model : str
        Name of the model.
    **given
        Parameters of :func:`crispyx.guides.assign`; None was not given.

    Raises
    ------
    InputError
        Unknown model; a value out of range; a parameter the model does not use.
    """
    if model not in MODELS:
        raise InputError(f"model is {model!r}; choose one of {', '.join(map(repr, MODELS))}")
    rule = cast(Model, model)
    given = {name: value for name, value in given.items() if value is not None}
    check_values(given, beta=rule in BETA_MODELS)
    if given.get("variant") == "exact":
        del given["variant"]
    _require_used(rule, given)
    _require_compatible(given)
    kaichi = given.get("variant") == "kaichi"
    thresholds = [given.pop(name) for name in THRESHOLDS if name in given]
    default = (KAICHI_THRESHOLD if kaichi else DEFAULT_THRESHOLD)[rule]
    threshold = thresholds[0] if thresholds else default
    if rule in WITH_EXPOSURE and not kaichi:
        given.setdefault("exposure", "consistent")
    if rule in WITH_PRIORS and not kaichi:
        # The depth models have all cells to learn from; their priors are no help.
        given.setdefault("priors", rule not in DEPTH_MODELS)
    if "batch_key" in given:
        given.setdefault("min_cells_per_batch", MIN_CELLS)
    if given.get("cut") == "last_crossing":
        del given["cut"]
    return GuideModel(rule, int(threshold) if rule in ("umi", "max") else float(threshold), **given)


def _used(rule: Model) -> tuple[str, ...]:
    used: tuple[str, ...] = (THRESHOLD_NAME.get(rule, "min_confidence"),)
    if rule == "ratio":
        used += ("min_confidence",)
    if rule in WITH_EXPOSURE:
        used += ("exposure",)
    if rule in WITH_PRIORS:
        used += ("priors",)
    if rule in BETA_MODELS:
        used += ("cut",)
    return used + (("min_umi", *OF_MIXTURES) if rule in MIXTURES else ())


def _require_used(rule: Model, given: dict[str, Any]) -> None:
    used = _used(rule)
    kaichi = given.get("variant") == "kaichi" and "variant" in used
    if kaichi:
        used = ("variant", "min_confidence")
    for name, value in given.items():
        if name in used:
            continue
        if name == "min_confidence" and rule in ("umi", "max"):
            reason = "its calls have confidence 1"
        elif kaichi:
            reason = "variant='kaichi' repeats what kaichi does"
        else:
            reason = "it is the parameter of another model"
        raise InputError(
            f"the model {rule!r} does not use {name} ({value!r} was given): {reason}; leave it "
            f"out, or set {' or '.join(used)}"
        )


def _require_compatible(given: dict[str, Any]) -> None:
    if "ratio" in given and "min_confidence" in given:
        raise InputError(
            f"ratio={given['ratio']!r} and min_confidence={given['min_confidence']!r} are the same "
            "threshold of the model 'ratio'; give one of them"
        )
    if given.get("cut") == "grid" and "min_confidence" in given:
        raise InputError(
            f"cut='grid' has no confidence (min_confidence={given['min_confidence']!r} was given): "
            "the signal is called where it is the densest component; leave one of them out"
        )
    if given.get("cut") == "grid" and "batch_key" in given:
        raise InputError(
            f"cut='grid' is one proportion for the screen, batch_key={given['batch_key']!r} one "
            "for each batch; leave one of them out"
        )
    if "min_cells_per_batch" in given and "batch_key" not in given:
        raise InputError(
            f"min_cells_per_batch={given['min_cells_per_batch']!r} needs batch_key=, the obs "
            "column of the batches"
        )
