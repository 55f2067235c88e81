"""Effects of perturbations beside covariates and the other perturbations of a cell."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from crispyx._io.matrix import STREAM_VALUES
from crispyx._io.memberships import PREFIX
from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.covariates import Covariates, read_covariates
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import require, working_memory
from crispyx._run.fingerprint import fingerprint
from crispyx._run.prefetch import prefetch
from crispyx._run.progress import track
from crispyx._stats.multiple_testing import adjust_rows
from crispyx._stats.residual_effects import inverse_of, regression
from crispyx.data import AnnData
from crispyx.data.arguments import PathLike, output_of
from crispyx.errors import CrispyxWarning, InputError
from crispyx.pseudobulk.files import Frame, write_profiles
from crispyx.settings import settings

TABLES = ("X", "standard_error", "z_score", "pvalue", "pvalue_adj")
MOST_PLACES = 2**31 - 1


def residual_effects(
    data: Any,
    *,
    perturbation_column: str,
    covariates: Iterable[str] = (),
    control_label: str | None = None,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
    layer: str | None = None,
    memory_limit_gb: float | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    output_path: PathLike | None = None,
    verbose: bool = False,
    force: bool = False,
) -> AnnData:
    r"""Estimate the effect of every perturbation that covariates and other guides do not explain.

    All perturbations and covariates are fitted at once by least squares,

    .. math::  y_i = \alpha + \sum_k d_{ik} \beta_k + z_i^T \gamma + \varepsilon_i

    where y is ln(1 + counts per 10,000), or the values as they are where these are no counts. In a
    screen whose cells carry several guides (``perturbation_column="obsm/NAME"``) an effect is that
    of one perturbation with the others held fixed; otherwise it is the difference from the control
    beside the covariates. The matrix is passed over twice, and the result appears when it is
    complete: an interrupted run leaves nothing and is begun again.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData, list of paths
        The screen; in memory, ``output_path`` or ``output_dir`` must be given.
    perturbation_column : str
        obs column of labels, or ``"obsm/NAME"`` for cells with several.
    covariates : iterable of str
        obs columns: text and booleans are categories, all else numbers.
    perturbations : iterable of str or None
        Perturbations of the result, in this order; None takes all. Where cells carry one each, the
        cells of others are left out; where they carry several, all are fitted all the same.
    control_label, gene_name_column, layer, memory_limit_gb
        As in :func:`crispyx.de.t_test`; ``"rest"`` for screens whose cells carry several and some
        none.
    output_dir, data_name, output_path
        Where the result goes; ``crispyx_residual_effects.h5ad`` beside the input unless given.
    verbose : bool
        Show a progress bar also where standard error is no terminal.
    force : bool
        Compute again, and replace what stands under the output's name.

    Returns
    -------
    AnnData
        Perturbations x genes, all float64. X: effects (natural log); layers ``standard_error``,
        ``z_score`` (effect over standard error), ``pvalue`` (Student's t, two-sided),
        ``pvalue_adj`` (Benjamini-Hochberg, each perturbation by itself). NaN for a perturbation
        that covariates or others determine, with a warning; a gene without a residual has effects
        but no test. ``uns["residual_effects"]``: covariates, control, cells, degrees of freedom,
        scale.

    Raises
    ------
    InputError, MissingColumnError, MemoryBudgetError, OutputExistsError
        No control; a covariate that says what others say; no perturbation that can be told from
        all else; too many for the memory.

    Notes
    -----
    Reference: ``reference.residual_effects``.
    """
    columns = [covariates] if isinstance(covariates, str) else list(covariates)
    with open_source(data, layer) as source:
        screen, fitted = _screens(
            source, perturbation_column, control_label, gene_name_column, perturbations
        )
        used = fitted.membership.used_cells
        beside = read_covariates(source, columns, perturbation_column, used)
        output = output_of(source, "residual_effects", output_path, output_dir, data_name)
        parameters = {
            "covariates": columns,
            "layer": layer,
            "labels": [screen.checksum, fitted.checksum],
            "engine": settings.engine,
        }
        identity = fingerprint("residual_effects", source.identity(), parameters)
        if can_reuse(output, identity, force=force):
            return AnnData(output)
        design = _design(fitted, beside)
        n_columns, n_genes = design.shape[1], source.shape[1]
        needed = 60 * n_columns * n_genes + 40 * n_columns**2
        require(needed, working_memory(memory_limit_gb), f"{source.where}: a regression")
        if n_columns * n_genes > MOST_PLACES:
            raise InputError(
                f"{len(fitted.groups)} perturbations of {n_genes} genes are too many at a time; "
                "give fewer genes, or perturbations= where cells carry one"
            )
        inverse = inverse_of(design)
        rows = 1 + np.array([fitted.groups.index(group) for group in screen.groups])
        _require_determined(screen, inverse.determined[rows], source)
        show = True if verbose else None
        summary = source.empty_summary()
        for _ in _pass(source, summary, show):
            pass
        counts = summary.looks_like_counts
        found = regression(
            _pass(source, None, show),
            design,
            inverse,
            n_genes,
            summary.library_sizes if counts else None,
            source.layout == "csc",
            settings.engine,
        )
        freedom = found.degrees_of_freedom
        tables = _tables(found.coefficients[rows], found.standard_errors[rows], freedom)
        notes = {
            "covariates": np.array(columns, dtype=object),
            "control_label": screen.control_label,
            "n_cells": int(np.count_nonzero(np.diff(design.indptr))),
            "degrees_of_freedom": freedom,
            "scale": "ln(1 + counts per 10,000)" if counts else "as given",
        }
        _write(output, screen, tables, {"residual_effects": notes}, identity)
    return AnnData(output)


def _screens(
    source: MatrixSource,
    column: str,
    control_label: str | None,
    gene_name_column: str | None,
    perturbations: Iterable[str] | None,
) -> tuple[Screen, Screen]:
    """Return the screen that is asked for, and the one to fit.

    Where cells carry several perturbations all are fitted: others than those asked for would
    otherwise be part of their effects.
    """
    resolved = partial(
        resolve_screen,
        source,
        perturbation_column=column,
        control_label=control_label,
        gene_name_column=gene_name_column,
    )
    asked = resolved(perturbations=perturbations)
    if perturbations is None or not column.startswith(PREFIX):
        return asked, asked
    return asked, resolved()


def _design(screen: Screen, beside: Covariates | None) -> Any:
    """Return 1, perturbations and covariates (n_cells, n_columns); unused cells have no entry."""
    import scipy.sparse as sp

    members = screen.membership
    used = members.used_cells
    if beside is not None:
        used = used & (beside.strata.of_cell >= 0)
    n_cells, n_groups = len(used), len(screen.groups)
    cells = np.repeat(np.arange(n_cells), np.diff(members.ptr))
    kept = used[cells] & (members.groups > 0)
    carried = sp.csr_matrix(
        (np.ones(kept.sum()), (cells[kept], members.groups[kept] - 1)), shape=(n_cells, n_groups)
    )
    parts = [sp.csr_matrix(used.astype(np.float64)[:, None]), carried]
    if beside is not None:
        levels = np.where(used[:, None], beside.strata.levels[beside.strata.of_cell], -1)
        for column in levels.T:
            for level in range(1, column.max() + 1):
                parts.append(sp.csr_matrix((column == level).astype(np.float64)[:, None]))
        parts.append(sp.csr_matrix(beside.numbers * used[:, None]))
    return sp.hstack(parts, format="csr")


def _pass(source: MatrixSource, summary: Any, show: bool | None) -> Iterator[CompressedBlock]:
    blocks = source.native_blocks(summary, max_values=STREAM_VALUES, max_major=MAX_SEGMENT_MAJOR)
    with closing(prefetch(blocks)) as ahead:
        yield from track(ahead, total=None, label="residual effects", unit="block", show=show)


def _tables(effects: np.ndarray, errors: np.ndarray, freedom: int) -> dict[str, np.ndarray]:
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(errors > 0, effects / errors, np.nan)
    pvalue = 2 * stdtr(max(freedom, 1), -np.abs(statistic))
    adjusted = adjust_rows(pvalue, "benjamini-hochberg", settings.engine)
    values = (effects, errors, statistic, pvalue, adjusted)
    return dict(zip(TABLES, values, strict=True))


def _require_determined(screen: Screen, determined: np.ndarray, source: MatrixSource) -> None:
    """Warn of perturbations that have no effect of their own; raise where none has."""
    lost = [group for group, told in zip(screen.groups, determined, strict=True) if not told]
    if len(lost) == len(screen.groups):
        raise InputError(
            f"no perturbation of {screen.perturbation_column!r} in {source.where} can be told from "
            "covariates, other perturbations and the mean of all cells: take covariates away, or "
            "give a control_label that cells carry"
        )
    if lost:
        warnings.warn(
            f"{len(lost)} perturbations cannot be told from covariates or other perturbations and "
            f"have no effect (first: {lost[0]!r})",
            CrispyxWarning,
            stacklevel=3,
        )


def _write(
    output: Any,
    screen: Screen,
    tables: Mapping[str, np.ndarray],
    uns: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> None:
    labels = np.array(screen.groups, dtype=object)
    column = screen.perturbation_column.replace("/", "_")
    write_profiles(
        output,
        Frame(labels, "perturbation", {column: labels}),
        Frame(screen.genes, "_index", {}),
        dict.fromkeys(tables, np.float64),
        lambda start, stop: {name: table[start:stop] for name, table in tables.items()},
        8 * len(screen.genes) * len(tables),
        uns,
        identity,
    )
