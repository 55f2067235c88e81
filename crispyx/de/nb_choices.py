"""Which estimators the arguments of the negative binomial test choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from crispyx._jobs.size_factors import require_method
from crispyx._stats.wald import SE_METHODS
from crispyx.de.nb_stages import Estimators, fitting_of
from crispyx.errors import InputError

SCOPES_OF_ESTIMATES = ("global", "per_comparison")
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "size_factor_scope": SCOPES_OF_ESTIMATES,
    "dispersion_scope": SCOPES_OF_ESTIMATES,
    "dispersion_method": ("moments", "cox-reid"),
    "optimization_method": ("irls", "lbfgsb"),
    "se_method": SE_METHODS,
}


@dataclass(frozen=True)
class Choices:
    """Documented arguments that choose an estimator, with their documented defaults.

    ``literal`` is no argument: PyDESeq2's starts, stops and replacement of outliers.
    """

    size_factor_method: str = "sparse"
    size_factor_scope: str = "global"
    scale_size_factors: bool = True
    dispersion: float | None = None
    dispersion_method: str = "cox-reid"
    dispersion_scope: str = "global"
    share_dispersion: bool = False
    use_map_dispersion: bool = True
    shrink_dispersion: bool = True
    optimization_method: str = "lbfgsb"
    max_iter: int = 25
    tol: float = 1e-6
    min_mu: float = 0.5
    poisson_init_iter: int = 5
    se_method: str = "sandwich"
    cook_filter: bool = False
    literal: bool = False

    @property
    def shares_dispersion(self) -> bool:
        """Whether a gene has one dispersion in all comparisons."""
        return self.share_dispersion or self.dispersion_scope == "global"

    @property
    def clamp(self) -> float:
        """Smallest fitted mean in use."""
        return self.min_mu if self.optimization_method == "irls" else 0.0

    def estimators(self) -> Estimators:
        """Return what the stages are given."""
        return Estimators(
            dispersion=self.dispersion,
            dispersion_method=self.dispersion_method,  # type: ignore[arg-type]
            shares_dispersion=self.shares_dispersion,
            shrinks=self.shrink_dispersion,
            takes_mode=self.use_map_dispersion,
            fitting=fitting_of(
                self.optimization_method,
                min_mu=self.min_mu,
                max_iter=self.max_iter,
                tol=self.tol,
                poisson_init_iter=self.poisson_init_iter,
                literal=self.literal,
            ),
            se_method=self.se_method,
            cook_filter=self.cook_filter,
            literal=self.literal,
        )


# What a preset replaces; an argument it does not name stays the caller's.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "pydeseq2": {
        "size_factor_method": "deseq2",
        "size_factor_scope": "per_comparison",
        "scale_size_factors": False,
        "dispersion": None,
        "dispersion_method": "cox-reid",
        "dispersion_scope": "per_comparison",
        "share_dispersion": False,
        "use_map_dispersion": True,
        "shrink_dispersion": True,
        "optimization_method": "irls",
        "max_iter": 250,
        "tol": 1e-8,
        "min_mu": 0.5,
        "poisson_init_iter": 5,  # its start is least squares: no other can be asked for
        "se_method": "sandwich",
        "literal": True,
    }
}


def choose(given: Choices, preset: str | None) -> Choices:
    """Check the arguments and let a preset replace its own.

    Raises
    ------
    InputError
        An unknown preset or choice, a number out of range, or an argument that differs from both
        its documented default and the preset's value.
    """
    if preset is not None:
        if preset not in PRESETS:
            raise InputError(f"preset is {preset!r}; choose one of {(None, *PRESETS)}")
        _refuse_clashes(given, preset)
        given = replace(given, **PRESETS[preset])
    require_method(given.size_factor_method)
    for name, allowed in ALLOWED.items():
        if getattr(given, name) not in allowed:
            raise InputError(f"{name} is {getattr(given, name)!r}; choose one of {allowed}")
    if given.dispersion is not None and not 0 <= given.dispersion < float("inf"):
        raise InputError(f"dispersion is {given.dispersion!r}; give a number >= 0 or None")
    for name, least in (("max_iter", 1), ("poisson_init_iter", 0)):
        value = getattr(given, name)
        if not (value >= least and int(value) == value):
            raise InputError(f"{name} is {value!r}; give a whole number >= {least}")
    if not given.tol > 0:
        raise InputError(f"tol is {given.tol!r}; give a number above 0")
    if not given.min_mu >= 0:
        raise InputError(f"min_mu is {given.min_mu!r}; give a number >= 0 (0 switches it off)")
    return given


def _refuse_clashes(given: Choices, preset: str) -> None:
    defaults = {field.name: field.default for field in fields(Choices)}
    clashes = [
        f"{name}={getattr(given, name)!r} (the preset's is {value!r})"
        for name, value in PRESETS[preset].items()
        if getattr(given, name) not in (defaults[name], value)
    ]
    if clashes:
        raise InputError(
            f"preset={preset!r} chooses what these arguments ask otherwise: {', '.join(clashes)}; "
            "leave them out, or leave out preset= and give every argument yourself"
        )
