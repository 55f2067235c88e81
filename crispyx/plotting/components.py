"""What principal components are made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.source import open_source
from crispyx.data.arguments import whole
from crispyx.dimred.target import resolve_target
from crispyx.errors import InputError
from crispyx.plotting.gene_labels import short_name
from crispyx.plotting.style import DOWN, LINE, NEUTRAL, UP, finish, panels, plain_text, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_GENES = 15
FIRST_COMPONENTS = (1, 2, 3)


@styled
def plot_pca_variance_ratio(
    data: Any,
    *,
    n_pcs: int | None = None,
    log: bool = False,
    show: bool | None = None,
    save: str | os.PathLike[str] | bool | None = None,
) -> Axes | None:
    """Draw the share of the variance that each principal component holds.

    Parameters
    ----------
    data : str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        Data set with ``uns["pca"]`` (:func:`crispyx.dimred.pca`).
    n_pcs : int or None
        Components to draw; None draws all.
    log : bool
        Logarithmic axis.
    show : bool or None
        True shows the figure and returns None.
    save : str, pathlib.Path, bool or None
        Save the figure under this name, True as ``pca_variance_ratio.png``; PNG unless the suffix
        says otherwise.

    Returns
    -------
    matplotlib.axes.Axes or None

    Raises
    ------
    InputError
        No principal components; ``n_pcs`` below 1 or above their number.
    """
    ratio = np.asarray(_required(data, "uns", "pca")["variance_ratio"], dtype=np.float64)
    n = len(ratio) if n_pcs is None else whole("n_pcs", n_pcs, 1)
    if n > len(ratio):
        raise InputError(f"n_pcs is {n}, but there are {len(ratio)} components")
    axes = panels(None, 1, (5.2, 3.6))
    ax = axes[0]
    numbers = np.arange(1, n + 1)
    ax.plot(numbers, 100 * ratio[:n], color=NEUTRAL, linewidth=1, zorder=1)
    ax.scatter(numbers, 100 * ratio[:n], color=DOWN, s=18, zorder=2)
    ax.set_xlabel("Principal component")
    ax.set_ylabel("Variance (%)")
    ax.set_title(f"{100 * ratio[:n].sum():.3g} % of the variance in {n} components")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    return _finished(axes, show, save, "pca_variance_ratio")


@styled
def plot_pca_loadings(
    data: Any,
    *,
    components: int | str | Sequence[int] | None = None,
    include_lowest: bool = True,
    show: bool | None = None,
    save: str | os.PathLike[str] | bool | None = None,
) -> list[Axes] | None:
    """Draw the genes with the largest loadings of some principal components, one panel each.

    Parameters
    ----------
    data : str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        Data set with ``varm["PCs"]`` (:func:`crispyx.dimred.pca`).
    components : int, str, sequence of int, or None
        Numbers of components from 1 on, such as ``[1, 3]`` or ``"1,3"``; None draws the first
        three.
    include_lowest : bool
        Draw the 8 most positive and the 7 most negative loadings, not the 15 most positive.
    show : bool or None
        True shows the figure and returns None.
    save : str, pathlib.Path, bool or None
        Save the figure under this name, True as ``pca_loadings.png``; PNG unless the suffix says
        otherwise.

    Returns
    -------
    list of matplotlib.axes.Axes or None

    Raises
    ------
    InputError
        No principal components; a component that is not there.
    """
    loadings = np.asarray(_required(data, "varm", "PCs"))
    chosen = _chosen(components, loadings.shape[1])
    genes = [plain_text(short_name(str(gene))) for gene in _genes(data)]
    axes = panels(None, len(chosen), (2.9 * len(chosen) + 0.4, 4.4))
    for ax, number in zip(axes, chosen, strict=True):
        _draw_loadings(ax, loadings[:, number - 1], genes, include_lowest)
        ax.set_title(f"PC{number}")
        ax.set_xlabel("Loading")
    drawn = finish(axes, show, saved_as(save, "pca_loadings"))
    return None if drawn is None else list(drawn)


def _draw_loadings(ax: Axes, loadings: np.ndarray, genes: list[str], include_lowest: bool) -> None:
    order = np.argsort(-loadings, kind="stable")
    n = min(N_GENES, len(order))
    if include_lowest and len(order) > n:
        n_low = n // 2
        order = np.concatenate([order[: n - n_low], order[len(order) - n_low :]])
    else:
        order = order[:n]
    values = loadings[order]
    places = np.arange(len(order))
    ax.barh(places, values, height=0.72, color=np.where(values >= 0, UP, DOWN))
    ax.axvline(0, color=LINE, linewidth=0.8)
    ax.set_yticks(places, [genes[i] for i in order])
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _chosen(components: int | str | Sequence[int] | None, n_components: int) -> list[int]:
    if components is None:
        return [number for number in FIRST_COMPONENTS if number <= n_components]
    wanted: list[Any]
    if isinstance(components, str):
        wanted = components.split(",")
    else:
        wanted = [components] if isinstance(components, int) else list(components)
    try:
        numbers = [int(number) for number in wanted]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= n_components for number in numbers):
        raise InputError(
            f"components is {components!r}; give numbers from 1 to {n_components}, such as [1, 2]"
        )
    return numbers


def _required(data: Any, slot: str, name: str) -> Any:
    found = resolve_target(data).entry(slot, name)
    if found is None:
        raise InputError(f"{slot} has no {name!r}; run cx.pp.pca first")
    return found


def _genes(data: Any) -> np.ndarray:
    with open_source(data) as source:
        return source.var.index


def _finished(axes: np.ndarray, show: bool | None, save: Any, name: str) -> Axes | None:
    drawn = finish(axes, show, saved_as(save, name))
    return None if drawn is None else drawn[0]


def saved_as(save: Any, name: str) -> Any:
    """Return what ``save=`` means: a name, the usual name for True, or None."""
    return name if save is True else save or None
