"""The page of a whole screen, from the files that its analysis left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.elements import element_names, read_element
from crispyx._io.paths import check_output_name, resolve_data_path
from crispyx._io.record import read_record
from crispyx.errors import InputError, OutputExistsError
from crispyx.report.content import OutputFile
from crispyx.report.page import write_report
from crispyx.report.perturbations import PerturbationSummary, summarize_perturbations
from crispyx.report.screen_sections import screen_content

if TYPE_CHECKING:
    import anndata

    from crispyx.de import CalibrationResult, RankGenesGroupsResult
    from crispyx.qc import QualityControlResult

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class ScreenFiles:
    """What the page of a screen is made of.

    Attributes
    ----------
    result : RankGenesGroupsResult
        Every perturbation against the control.
    rows : list of PerturbationSummary
        One per perturbation, those with the most changes first.
    n_cells : dict of str to int
        Cells of each label that were compared, the control included.
    alpha : float
        Adjusted p up to which a gene counts as changed.
    calls : anndata.AnnData or None
        Guide calls.
    quality : QualityControlResult or None
        What quality control kept.
    limits : dict of str to int
        Thresholds of quality control, where the file says them.
    layout : numpy.ndarray (n_cells, 2) or None
        UMAP of the cells.
    labels : numpy.ndarray (n_cells,) str
        Label of each cell of the layout.
    parameters : dict
        Of the comparison.
    calibration : CalibrationResult or None
        Tests of control cells against control cells.
    """

    result: RankGenesGroupsResult
    rows: list[PerturbationSummary]
    n_cells: dict[str, int]
    alpha: float
    calls: anndata.AnnData | None
    quality: QualityControlResult | None
    limits: dict[str, int]
    layout: np.ndarray | None
    labels: np.ndarray
    parameters: dict[str, Any]
    calibration: CalibrationResult | None = None


def screen_report(
    result: Any,
    output_path: PathLike | None = None,
    *,
    cells: PathLike | None = None,
    screen: PathLike | None = None,
    filtered: PathLike | None = None,
    calls: PathLike | None = None,
    target_genes: Mapping[str, str] | None = None,
    alpha: float = 0.05,
    title: str | None = None,
    force: bool = False,
    files: Mapping[str, str] | None = None,
    calibration: PathLike | None = None,
) -> Path:
    """Write one HTML page about a whole screen, from its result files.

    The page holds what was kept, guide calls, the genes each perturbation changes (a table to sort
    and search, a volcano plot of each on demand), the effect on each perturbation's own target, and
    the layout of the cells: as much of it as there are files for. It needs no network and no other
    file.

    Parameters
    ----------
    result : path or RankGenesGroupsResult
        Result of a comparison with the control.
    output_path : path or None
        The page; None makes ``report.html`` beside the result.
    cells : path or None
        Cells that were compared, for their numbers and, where it has one, their UMAP; None takes
        the file that the result names as its input.
    screen, filtered : path or None
        Labelled counts before and after quality control; give both for the section about it.
    calls : path or None
        Guide calls (.h5ad, as ``crispyx.guides.assign`` makes them).
    target_genes : mapping of str to str, or None
        Gene each perturbation is aimed at, where it is not the gene of the same name.
    alpha : float
        Genes with an adjusted p up to this count as changed.
    title : str or None
        Heading.
    force : bool
        Replace a file of that name.
    files : mapping of str to str, or None
        Further files to name on the page, with what they hold.
    calibration : path or None
        Result of :func:`crispyx.de.calibration`, for a section about what the tests find among
        control cells.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    InputError
        The file is no result; the compared cells cannot be found; only one of ``screen`` and
        ``filtered``; ``alpha`` outside (0, 1).
    OutputExistsError
        A file of that name exists.
    """
    from crispyx.de import load_calibration, load_result

    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha!r}; give a number between 0 and 1")
    if (screen is None) != (filtered is None):
        raise InputError("screen= and filtered= go together: counts before and after QC")
    tested = result if hasattr(result, "groups") else load_result(result)
    path = Path(tested.result_path)
    page = Path(output_path).expanduser() if output_path else path.with_name("report.html")
    given = (cells, screen, filtered, calls, calibration)
    inputs = [path, *(Path(one) for one in given if one is not None)]
    check_output_name(page, tuple(inputs))
    if page.exists() and not force:
        raise OutputExistsError(f"{str(page)!r} exists; give another name, or force to replace it")
    calibrated = None if calibration is None else load_calibration(calibration)
    compared = _compared_cells(path, cells)
    labels = _labels(compared, tested.groupby)
    names, counted = np.unique(labels[labels != ""], return_counts=True)
    n_cells = dict(zip(map(str, names), map(int, counted), strict=True))
    rows = summarize_perturbations(tested, n_cells, target_genes=target_genes, alpha=alpha)
    record = read_record(path)
    found = ScreenFiles(
        result=tested,
        rows=sorted(rows, key=lambda one: (-one.n_hits, one.top_pvalue_adj)),
        n_cells=n_cells,
        alpha=alpha,
        calls=None if calls is None else _calls(calls),
        quality=None if screen is None else _quality(screen, filtered, tested.groupby),
        limits={} if filtered is None else _limits(filtered),
        layout=_layout(compared),
        labels=labels,
        parameters={} if record is None else record["parameters"],
        calibration=calibrated,
    )
    listed = {_beside(path, page): f"results of the test ({tested.method})", **(files or {})}
    content = screen_content(
        found,
        title=title or f"CRISPR screen: {path.stem.removeprefix('crispyx_')}",
        files=[OutputFile(name, what) for name, what in listed.items()],
    )
    return write_report(page, content)


def _compared_cells(result: Path, cells: PathLike | None) -> Path:
    """Return the file of the cells that were compared."""
    if cells is not None:
        return resolve_data_path(cells)
    record = read_record(result)
    named = None if record is None else record["input"].get("path")
    for place in () if named is None else (Path(named), result.with_name(Path(named).name)):
        if place.is_file():
            return place
    raise InputError(
        f"{str(result)!r} was made from {named!r}, which is not there any more; name the file of "
        "the compared cells with cells="
    )


def _labels(path: Path, column: str) -> np.ndarray:
    from crispyx.data import load_obs

    obs = load_obs(path)
    if column not in obs:
        raise InputError(
            f"{str(path)!r} has no obs column {column!r}; cells= names the compared cells"
        )
    return obs[column].astype(object).where(obs[column].notna(), "").astype(str).to_numpy()


def _calls(path: PathLike) -> anndata.AnnData:
    import anndata

    found = anndata.read_h5ad(resolve_data_path(path))
    if not {"status", "n_cells_assigned"} <= set(found.var):
        raise InputError(
            f"{os.fspath(path)!r} holds no guide calls; crispyx.guides.assign makes them"
        )
    return found


def _quality(screen: Any, filtered: Any, column: str) -> QualityControlResult:
    """Return what was kept, counted afresh from the file before quality control."""
    from crispyx._io.source import open_source
    from crispyx.data import AnnData
    from crispyx.qc import (
        QualityControlResult,
        filter_cells_by_gene_count,
        filter_genes_by_cell_count,
    )

    with open_source(filtered) as after:
        cells, genes = set(after.obs.index), set(after.var.index)
    with open_source(screen) as before:
        kept = np.array([name in cells for name in before.obs.index])
        measured = np.array([name in genes for name in before.var.index])
    counted: Any = filter_cells_by_gene_count(screen, min_genes=0, return_counts=True)
    per_cell = counted[1]
    per_gene = filter_genes_by_cell_count(screen, min_cells=0, cell_mask=kept, return_counts=True)[
        1
    ]
    labels = _labels(resolve_data_path(screen), column)
    left = set(labels[kept])
    named = dict.fromkeys(str(label) for label in labels if label)
    return QualityControlResult(
        cell_mask=kept,
        gene_mask=measured,
        perturbation_keep={label: label in left for label in named},
        filtered=AnnData(resolve_data_path(filtered)),
        cell_gene_counts=per_cell,
        gene_cell_counts=per_gene,
    )


def _limits(filtered: PathLike) -> dict[str, int]:
    record = read_record(resolve_data_path(filtered))
    parameters = {} if record is None else record["parameters"]
    names = ("min_genes", "min_cells_per_perturbation", "min_cells_per_gene")
    return {name: int(parameters[name]) for name in names if name in parameters}


def _layout(path: Path) -> np.ndarray | None:
    if "X_umap" not in element_names(path, "obsm"):
        return None
    found = np.asarray(read_element(path, "obsm/X_umap"))
    return found[:, :2] if found.ndim == 2 and found.shape[1] >= 2 else None


def _beside(path: Path, page: Path) -> str:
    return os.path.relpath(path.resolve(), page.resolve().parent)
