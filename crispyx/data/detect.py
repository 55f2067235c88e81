"""Which columns hold the perturbations and the gene symbols."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from crispyx._io.annotations import Annotations, as_labels
from crispyx._io.source import open_source
from crispyx._jobs.labels import CONTROL_NAMES
from crispyx.data.arguments import whole
from crispyx.data.genes import ENSEMBL

PERTURBATION_NAMES = (
    "perturbation",
    "gene",
    "gene_target",
    "condition",
    "guide_identity",
    "target_gene_name",
    "gene_name",
    "sgrna",
    "guide",
    "guide_id",
    "sgrna_name",
    "target",
)
SYMBOL_NAMES = (
    "gene_symbols",
    "gene_name",
    "gene",
    "symbol",
    "hgnc_symbol",
    "gene_symbol",
    "feature_name",
)
MOST_LABELS = 5000

_log = logging.getLogger("crispyx.data")


def detect_perturbation_column(
    adata: Any, *, control_label: str | None = None, min_unique: int = 2, verbose: bool = True
) -> str | None:
    """Return the obs column that most likely holds the perturbation labels.

    A column scores 3 for a usual name, 2 for text or categories, 1 for ``min_unique`` to 5,000
    different values, and 2 when one of them is the control. The first of the best columns wins.

    Parameters
    ----------
    adata : str, pathlib.Path, AnnData or anndata.AnnData
        The data set.
    control_label : str or None
        The control; None looks for its usual names.
    min_unique : int
        Different values a column should have.
    verbose : bool
        Log the column (INFO, logger ``crispyx.data``).

    Returns
    -------
    str or None
        None when no column scores.
    """
    least = whole("min_unique", min_unique, 0)
    with open_source(adata) as source:
        scores = {
            name: _perturbation_score(name, source.obs.column(name), control_label, least)
            for name in source.obs.columns
        }
    return _best(scores, "perturbation column", verbose)


def detect_gene_symbol_column(adata: Any, *, verbose: bool = True) -> str | None:
    """Return the var column that most likely holds the gene symbols.

    A column scores 3 for a usual name, 2 when its values pass for symbols (text, not numbers, and
    not mostly Ensembl identifiers), and 1 when none starts like an Ensembl identifier. It qualifies
    with a usual name or values that pass for symbols. The first of the best columns wins.

    Parameters
    ----------
    adata : str, pathlib.Path, AnnData or anndata.AnnData
        The data set.
    verbose : bool
        Log the column (INFO, logger ``crispyx.data``).

    Returns
    -------
    str or None
        None when no column qualifies: take ``var_names``.
    """
    with open_source(adata) as source:
        scores = {name: _symbol_score(name, source.var) for name in source.var.columns}
    return _best({n: score if score > 1 else 0 for n, score in scores.items()}, "symbols", verbose)


def infer_columns(
    adata: Any, *, control_label: str | None = None, verbose: bool = True
) -> dict[str, str | None]:
    """Return the columns of the perturbations and of the gene symbols.

    Parameters
    ----------
    adata : str, pathlib.Path, AnnData or anndata.AnnData
        The data set.
    control_label : str or None
        See :func:`detect_perturbation_column`.
    verbose : bool
        Log the columns.

    Returns
    -------
    dict
        ``perturbation_column`` and ``gene_name_column``, each a name or None.
    """
    return {
        "perturbation_column": detect_perturbation_column(
            adata, control_label=control_label, verbose=verbose
        ),
        "gene_name_column": detect_gene_symbol_column(adata, verbose=verbose),
    }


def _perturbation_score(
    name: str, values: np.ndarray, control_label: str | None, min_unique: int
) -> int:
    labels = {label for label in as_labels(values) if label is not None}
    if control_label is None:
        has_control = any(label.lower() in CONTROL_NAMES for label in labels)
    else:
        has_control = str(control_label) in labels
    return (
        3 * (name.lower() in PERTURBATION_NAMES)
        + 2 * (values.dtype == object)
        + (min_unique <= len(labels) <= MOST_LABELS)
        + 2 * has_control
    )


def _symbol_score(name: str, var: Annotations) -> int:
    values = var.column(name)
    score = 3 * (name.lower() in SYMBOL_NAMES)
    known = [label for label in as_labels(values) if label is not None]
    if values.dtype != object or not known:
        return score
    n_ensembl = sum(ENSEMBL.fullmatch(label) is not None for label in known)
    n_numbers = sum(label.replace(".", "", 1).lstrip("-").isdigit() for label in known)
    # Few different values are a kind of gene, not its symbol.
    distinct = 2 * len(set(known)) > len(known)
    passes = distinct and 2 * n_ensembl <= len(known) and 2 * n_numbers <= len(known)
    return score + 2 * passes + (n_ensembl == 0)


def _best(scores: dict[str, int], what: str, verbose: bool) -> str | None:
    best = max(scores, key=lambda name: scores[name], default=None)
    if best is None or scores[best] <= 0:
        return None
    if verbose:
        _log.info("%s: %r (detected)", what, best)
    return best
