"""Effects of perturbations beside covariates and the other perturbations of a cell."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np

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
from crispyx._stats.residual_effects import regression
from crispyx.data import AnnData
from crispyx.data.arguments import PathLike, output_of
from crispyx.errors import CrispyxWarning, InputError
from crispyx.pseudobulk.files import Frame, write_profiles
from crispyx.settings import settings

TABLES = ("X", "standard_error", "z_score", "pvalue", "pvalue_adj")
MOST_PLACES = 2**31 - 1
BLOCK_VALUES = 250_000  # values of a block: each takes some 200 bytes while it is added up


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
    beside the covariates. The matrix is passed over twice.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData, list of paths
        The screen; in memory, ``output_path`` or ``output_dir`` must be given.
    perturbation_column : str
        obs column of labels, or ``"obsm/NAME"`` for cells with several.
    covariates : iterable of str
        obs columns: text and booleans are categories, all else numbers.
    control_label, gene_name_column, perturbations, layer, memory_limit_gb
        As in :func:`crispyx.de.t_test`.
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
        that covariates or others determine, with a warning. ``uns["residual_effects"]``:
        covariates, control, degrees of freedom.

    Raises
    ------
    InputError, MissingColumnError, MemoryBudgetError, OutputExistsError
        No control; a covariate that says what others say; too many perturbations for the memory.

    Notes
    -----
    Reference: ``reference.residual_effects``.
    """
    columns = [covariates] if isinstance(covariates, str) else list(covariates)
    with open_source(data, layer) as source:
        screen = resolve_screen(
            source,
            perturbation_column=perturbation_column,
            control_label=control_label,
            gene_name_column=gene_name_column,
            perturbations=perturbations,
        )
        used = screen.membership.used_cells
        beside = read_covariates(source, columns, perturbation_column, used)
        output = output_of(source, "residual_effects", output_path, output_dir, data_name)
        parameters = {
            "covariates": columns,
            "layer": layer,
            "labels": screen.checksum,
            "engine": settings.engine,
        }
        identity = fingerprint("residual_effects", source.identity(), parameters)
        if can_reuse(output, identity, force=force):
            return AnnData(output)
        design = _design(screen, beside)
        n_places = design.shape[1] * source.shape[1]
        require(60 * n_places, working_memory(memory_limit_gb), f"{source.where}: a regression")
        if n_places > MOST_PLACES:
            raise InputError(
                f"{len(screen.groups)} perturbations are too many; give perturbations="
            )
        show = True if verbose else None
        summary = source.empty_summary()
        for _ in _pass(source, summary, show):
            pass
        found = regression(
            _pass(source, None, show),
            design,
            source.shape[1],
            summary.library_sizes if summary.looks_like_counts else None,
            source.layout == "csc",
            settings.engine,
        )
        rows = slice(1, 1 + len(screen.groups))
        tables = _tables(
            found.coefficients[rows], found.standard_errors[rows], found.degrees_of_freedom
        )
        _warn_about_undetermined(screen, tables["X"])
        notes = {
            "covariates": np.array(columns, dtype=object),
            "control_label": screen.control_label,
            "degrees_of_freedom": found.degrees_of_freedom,
        }
        _write(output, screen, tables, {"residual_effects": notes}, identity)
    return AnnData(output)


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
    blocks = source.native_blocks(summary, max_values=BLOCK_VALUES, max_major=MAX_SEGMENT_MAJOR)
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


def _warn_about_undetermined(screen: Screen, effects: np.ndarray) -> None:
    lost = np.flatnonzero(np.isnan(effects).all(axis=1))
    if lost.size:
        warnings.warn(
            f"{lost.size} perturbations cannot be told from covariates or other perturbations and "
            f"have no effect (first: {screen.groups[lost[0]]!r})",
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
