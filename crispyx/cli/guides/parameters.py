"""Options that are keyword arguments of ``cx.gd``: one table of types and texts for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from crispyx.errors import InputError


class Share(click.FloatRange):
    """A number from 0 to 1; NaN is none."""

    name = "share"

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the number, or end with a usage error."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("nan is not a number from 0 to 1", param, ctx)
        return number


SHARE, COUNT = Share(), click.IntRange(min=1)
# Name in Python: type, text. Defaults are Python's: what is not given is not passed on.
PARAMETERS: dict[str, tuple[click.ParamType, str]] = {
    "min_confidence": (SHARE, "Posterior that a call must exceed."),
    "min_umi": (COUNT, "Smallest count of a call."),
    "quantile": (SHARE, "quantiles: share of each guide's cells."),
    "umi_threshold": (COUNT, "umi, max: smallest count of a call."),
    "ratio": (SHARE, "ratio: share of the cell's guide UMIs to exceed."),
    "min_models": (COUNT, "Models that a call of the consensus needs; most of them unless given."),
    "max_guides": (COUNT, "Leave cells with more detected guides unassigned."),
    "margin": (SHARE, "Smallest distance in posterior to the cell's other guides."),
    "expected_fdr": (SHARE, "Keep the most certain calls with this mean of 1 - posterior."),
    "batch_key": (click.STRING, "obs column of batches to fit apart."),
    "min_cells_per_batch": (COUNT, "Smaller batches are fitted together."),
    "layer": (click.STRING, "Layer that holds the counts; X unless given."),
    "feature_type": (click.STRING, "Feature type of the guides, in files with several."),
    "modality": (click.STRING, "Modality of the guides in an .h5mu file."),
    "exposure": (click.STRING, "poisson, neg_binomial: consistent or crispat."),
    "cut": (click.STRING, "beta2, beta3: last_crossing or grid."),
    "priors": (click.BOOL, "Fit with priors (true) or by maximum likelihood (false)."),
    "variant": (click.STRING, "Definition of the model that another tool uses."),
    "n_starts": (COUNT, "Starts of the EM algorithm."),
    "tolerance": (click.FLOAT, "Relative change of the parameters that ends the EM algorithm."),
    "max_iterations": (COUNT, "Iterations of each start."),
}

# What is read, whatever the model.
NOT_OF_MODEL = ("layer", "feature_type", "modality")


def parameter_options(names: Sequence[str], shown: Mapping[str, str] | None = None) -> Any:
    """Return a decorator that adds one option a parameter, and ``--params``."""
    defaults = shown or {}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            kind, text = PARAMETERS[name]
            note = f"  [default: {defaults[name]}]" if name in defaults else ""
            option = click.option(_option_name(name), name, type=kind, help=text + note)
            command = option(command)
        return click.option(
            "--params",
            multiple=True,
            metavar="NAME=VALUE",
            help="Any of the parameters by its name in Python; may be repeated.",
        )(command)

    return decorate


def given_parameters(
    names: Sequence[str], options: dict[str, Any], params: Sequence[str]
) -> dict[str, Any]:
    """Take the parameters that were given out of a command's options.

    Parameters
    ----------
    names : sequence of str
        Parameters of the command.
    options : dict
        Values by name, None where not given; those of ``names`` are removed.
    params : sequence of str
        ``NAME=VALUE`` each.

    Raises
    ------
    click.UsageError
        No such parameter; a value of another type; given twice.
    """
    given = {name: options.pop(name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    for text in params:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in names:
            raise click.BadParameter(
                f"{text!r}; give NAME=VALUE with one of {', '.join(names)}", param_hint="--params"
            )
        if name in given:
            raise click.BadParameter(f"{name} is given twice", param_hint="--params")
        given[name] = PARAMETERS[name][0].convert(value.strip(), None, None)
    return given


def require_usable(
    model: str, given: Mapping[str, Any], *, mixture: bool = False, reason: str = ""
) -> None:
    """Check model and parameters against each other before anything is read.

    Parameters
    ----------
    model : str
        Name.
    given : mapping
        Parameters by their names in Python.
    mixture : bool
        Only a model with posteriors will do.
    reason : str
        Why that is so.

    Raises
    ------
    click.UsageError
        Unknown model; a value out of range; a parameter the model does not use.
    """
    from crispyx.guides.models import MIXTURES, resolve_model

    try:
        resolve_model(model, **{k: v for k, v in given.items() if k not in NOT_OF_MODEL})
    except InputError as error:
        raise click.UsageError(str(error)) from error
    if mixture and model not in MIXTURES:
        why = f"{reason}, and " if reason else ""
        raise click.UsageError(
            f"{why}model {model!r} fits nothing and has no posteriors; choose one of "
            f"{', '.join(MIXTURES)}"
        )


def _option_name(name: str) -> str:
    return f"--{name.replace('_', '-')}"
