"""Cells in an embedding, drawn by scanpy; of the matrix only colored genes are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.row_passes import RowPasses
from crispyx._io.source import MatrixSource, open_source
from crispyx._run.extras import import_scanpy
from crispyx.dimred.target import resolve_target
from crispyx.errors import InputError, MissingColumnError
from crispyx.plotting.components import saved_as
from crispyx.plotting.style import root_figure, save_figure, styled

if TYPE_CHECKING:
    import anndata

ROWS = 4096  # read at a time where a gene is drawn
# More categories have no legend: nobody tells so many colors apart.
MOST_CATEGORIES = 60


def plot_pca(
    data: Any,
    *,
    color: str | Sequence[str] | None = None,
    use_raw: bool | None = None,
    layer: str | None = None,
    sort_order: bool = True,
    groups: str | Sequence[str] | None = None,
    projection: str = "2d",
    components: str | Sequence[str] | None = None,
    palette: Any = None,
    na_color: str = "lightgray",
    na_in_legend: bool = True,
    size: float | None = None,
    frameon: bool | None = None,
    legend_fontsize: float | str | None = None,
    legend_fontweight: int | str | None = None,
    legend_loc: str = "right margin",
    legend_fontoutline: int | None = None,
    colorbar_loc: str | None = "right",
    ncols: int = 4,
    wspace: float | None = None,
    hspace: float = 0.25,
    title: str | Sequence[str] | None = None,
    show: bool | None = None,
    save: Any = None,
    ax: Any = None,
    return_fig: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Draw the cells in two principal components.

    Only ``obsm["X_pca"]`` and what is colored are read.

    Parameters
    ----------
    data : str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        Data set with ``obsm["X_pca"]`` (:func:`crispyx.dimred.pca`).
    color : str, sequence of str, or None
        obs columns or genes, one panel each; a gene is read from the matrix in one pass.
    use_raw : bool or None
        True is refused: genes are read from X or ``layer``.
    layer : str or None
        Layer that genes are read from instead of X.
    sort_order : bool
        Draw the largest values of a numeric color last, on top.
    groups : str, sequence of str, or None
        Categories to color; the others get ``na_color``.
    projection : {"2d", "3d"}
        Plane or space.
    components : str, sequence of str, or None
        Such as ``"1,2"`` or ``["1,2", "3,4"]``; None draws the first two (three in space).
    palette : any
        Colors of the categories, as matplotlib names or lists them. More than 60 categories have no
        legend; choose some by ``groups``.
    na_color, na_in_legend
        Color of cells without a value, and whether the legend has it.
    size : float or None
        Area of a point in square points; None chooses by the number of cells.
    frameon : bool or None
        Frame around each panel.
    legend_fontsize, legend_fontweight, legend_loc, legend_fontoutline, colorbar_loc
        Legend and color bar; ``legend_loc="on data"`` writes categories on the points.
    ncols : int
        Panels in a row.
    wspace, hspace : float or None
        Room between panels.
    title : str, sequence of str, or None
        Titles of the panels.
    show : bool or None
        True shows the figure and returns None.
    save : str, pathlib.Path, bool or None
        Save the figure under this name, True as ``pca.png``; PNG unless the suffix says otherwise.
    ax : matplotlib.axes.Axes or None
        Draw here; one panel only.
    return_fig : bool or None
        Return the figure instead of the axes.
    **kwargs
        Further arguments of ``scanpy.pl.embedding``.

    Returns
    -------
    matplotlib.axes.Axes, list of them, matplotlib.figure.Figure or None

    Raises
    ------
    ImportError
        scanpy is not installed.
    InputError, MissingColumnError
        No such embedding; a color that is neither an obs column nor a gene; ``use_raw=True``.
    """
    given = {name: value for name, value in locals().items() if name not in ("data", "kwargs")}
    return _embedding(data, "pca", "X_pca", given | kwargs)


def plot_umap(
    data: Any,
    *,
    color: str | Sequence[str] | None = None,
    use_raw: bool | None = None,
    layer: str | None = None,
    sort_order: bool = True,
    groups: str | Sequence[str] | None = None,
    components: str | Sequence[int] | None = None,
    palette: Any = None,
    na_color: str = "lightgray",
    na_in_legend: bool = True,
    size: float | None = None,
    frameon: bool | None = None,
    legend_fontsize: float | str | None = None,
    legend_fontweight: int | str | None = None,
    legend_loc: str = "right margin",
    legend_fontoutline: int | None = None,
    colorbar_loc: str | None = "right",
    ncols: int = 4,
    wspace: float | None = None,
    hspace: float = 0.25,
    title: str | Sequence[str] | None = None,
    show: bool | None = None,
    save: Any = None,
    ax: Any = None,
    return_fig: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Draw the cells in the layout of UMAP.

    Only ``obsm["X_umap"]`` and what is colored are read.

    Parameters
    ----------
    data : str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        Data set with ``obsm["X_umap"]`` (:func:`crispyx.dimred.umap`).
    components : str, sequence of int, or None
        Dimensions to draw, counted from 0 as numbers (``[0, 1]``) or from 1 as text (``"1,2"``);
        None draws the first two.
    color, use_raw, layer, sort_order, groups, palette, na_color, na_in_legend, size, frameon
        See :func:`plot_pca`.
    legend_fontsize, legend_fontweight, legend_loc, legend_fontoutline, colorbar_loc
        Idem.
    ncols, wspace, hspace, title, show, save, ax, return_fig
        Idem; ``save=True`` saves as ``umap.png``.
    **kwargs
        Further arguments of ``scanpy.pl.embedding``.

    Returns
    -------
    matplotlib.axes.Axes, list of them, matplotlib.figure.Figure or None

    Raises
    ------
    ImportError, InputError, MissingColumnError
        As :func:`plot_pca`.
    """
    given = {name: value for name, value in locals().items() if name not in ("data", "kwargs")}
    return _embedding(data, "umap", "X_umap", given | kwargs)


@styled
def _embedding(data: Any, basis: str, key: str, given: dict[str, Any]) -> Any:
    draw = import_scanpy(f"cx.pl.{basis}").pl.embedding
    show, save, return_fig = (given.pop(name) for name in ("show", "save", "return_fig"))
    if given.pop("use_raw"):
        raise InputError("use_raw is True, but genes are read from X or layer=; leave it out")
    given["dimensions"] = _dimensions(given.pop("components"))
    given["color"] = given["color"] if given["color"] else None
    adata = _drawn_data(data, key, given["color"], given.pop("layer"))
    longest = _choose_categories(adata, given["groups"])
    if longest > MOST_CATEGORIES and given["legend_loc"] == "right margin":
        given["legend_loc"] = "none"
        longest = 0
    if given["wspace"] is None:
        given["wspace"] = _room_for_legend(longest)
    axes = draw(adata, basis, show=False, **given)
    first = axes[0] if isinstance(axes, list) else axes
    figure = root_figure(first)
    name = saved_as(save, basis)
    if name is not None:
        save_figure(figure, name, bbox_inches="tight")  # legends stand outside the figure
    if return_fig:
        return figure
    if show:
        import matplotlib.pyplot as plt

        plt.show()
        return None
    return axes


def _choose_categories(adata: anndata.AnnData, groups: str | Sequence[str] | None) -> int:
    """Return the entries of the longest legend; of many categories keep ``groups`` alone.

    scanpy draws more than 102 categories in one gray, and those asked for with them.
    """
    chosen = None if groups is None else {groups} if isinstance(groups, str) else set(groups)
    longest = 0
    for name in [name for name in adata.obs if adata.obs[name].dtype == "category"]:
        every = adata.obs[name].cat.categories
        kept = [label for label in every if chosen is None or label in chosen]
        longest = max(longest, len(kept))
        if kept and len(kept) < len(every) and len(every) > MOST_CATEGORIES:
            adata.obs[name] = adata.obs[name].cat.set_categories(kept)
            adata.uns.pop(f"{name}_colors", None)
    return longest


def _room_for_legend(longest: int) -> float | None:
    """Return the space between panels, in their widths, for a legend; None for a single column."""
    columns = 1 + (longest > 14) + (longest > 30)  # as scanpy lays a legend out
    return None if columns == 1 else 0.3 * columns


def _dimensions(components: Any) -> Any:
    """Return pairs counted from 0 as scanpy takes them: text counts from 1, numbers from 0."""
    if components is None:
        return None
    parts = [components] if isinstance(components, str) else list(components)
    try:
        if all(isinstance(part, str) for part in parts):
            return [tuple(int(number) - 1 for number in part.split(",")) for part in parts]
        return tuple(int(number) for number in parts)
    except (TypeError, ValueError):
        raise InputError(
            f"components is {components!r}; give text such as '1,2', or a list of such"
        ) from None


def _drawn_data(
    data: Any, key: str, color: str | Sequence[str] | None, layer: str | None
) -> anndata.AnnData:
    """Return an AnnData with the embedding, the colored obs columns, and colored genes as such."""
    import anndata
    import pandas as pd

    target = resolve_target(data)
    table = target.entry("obsm", key)
    if table is None:
        raise InputError(f"obsm has no {key!r}; run cx.pp.pca, or cx.pp.neighbors and cx.tl.umap")
    obs = pd.DataFrame(index=pd.RangeIndex(len(table)).astype(str))
    uns = {}
    names = [] if color is None else [color] if isinstance(color, str) else list(color)
    with open_source(data, layer) as source:
        genes = []
        for name in names:
            if name in source.obs.columns:
                obs[name] = _column(source, name)
                uns[f"{name}_colors"] = target.entry("uns", f"{name}_colors")
            elif name in set(source.var.index):
                genes.append(name)
            else:
                raise MissingColumnError(
                    f"color is {name!r}, which is neither an obs column of {source.where} "
                    f"({', '.join(source.obs.columns) or 'none'}) nor one of its genes"
                )
        values = _expression(source, genes)
    for name, column in zip(genes, values.T, strict=True):
        obs[name] = column
    drawn = anndata.AnnData(obs=obs, obsm={key: np.asarray(table)})
    drawn.uns.update({name: value for name, value in uns.items() if value is not None})
    return drawn


def _column(source: MatrixSource, name: str) -> Any:
    import pandas as pd

    values = source.obs.column(name)
    return pd.Categorical(values) if values.dtype.kind == "O" else values


def _expression(source: MatrixSource, genes: list[str]) -> np.ndarray:
    """Return the values of some genes (n_cells, n_genes), from one pass over the matrix."""
    place = {name: column for column, name in reversed(list(enumerate(source.var.index)))}
    columns = [place[gene] for gene in genes]
    values = np.zeros((source.shape[0], len(genes)))
    if not genes:
        return values
    chosen = np.zeros(source.shape[1], dtype=bool)
    chosen[columns] = True
    passes = RowPasses(source, chosen, rows_per_block=ROWS, budget=0)
    try:
        for block in passes():
            row = np.repeat(np.arange(block.start, block.stop), np.diff(block.ptr))
            values[row, np.argsort(columns)[block.minor]] = block.values
    finally:
        passes.close()
    return values
