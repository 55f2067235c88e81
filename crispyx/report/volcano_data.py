"""The numbers behind the volcano plots and gene lists of the page, packed inside it."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from crispyx.report.content import DifferentialExpression

# Bounds the page: the most significant genes are all there, the others thinned evenly.
MAX_POINTS = 300_000
MIN_POINTS_EACH = 120
MAX_POINTS_EACH = 25_000
N_TOP_GENES = 15
CEILING = 300.0
LFC_STEP, HEIGHT_STEP = 1e-3, 1e-2
MAX_LFC_STORED = 32.0


def volcano_json(expression: DifferentialExpression) -> str:
    """Return the data as JSON that may stand inside a script element.

    One entry per perturbation: name, cells, numbers of genes, own target, and two packed arrays
    (base64, little-endian). ``points`` holds the numbers of the genes drawn (uint16, uint32 for
    more than 65,535 genes), then their log2 fold changes (int16, thousandths), then their -log10
    adjusted p (uint16, hundredths). ``top`` holds, for the first of them, p and adjusted p as
    log10, the fold change, and the fractions of control and of perturbed cells (float32 each).
    """
    result = expression.result
    row_of = {label: row for row, label in enumerate(result.groups)}
    share = MAX_POINTS // max(1, len(expression.perturbations))
    points_each = min(MAX_POINTS_EACH, max(MIN_POINTS_EACH, share))
    number = {str(gene): place for place, gene in enumerate(result.genes)}
    groups = [
        {
            "name": one.perturbation,
            "cells": one.n_cells,
            "lowered": one.n_lowered,
            "raised": one.n_raised,
            "target": None if one.target is None else number[one.target.gene],
            **_group(expression, row_of[one.perturbation], points_each),
        }
        for one in expression.perturbations
    ]
    data = {
        "alpha": expression.alpha,
        "control": result.control_label,
        "genes": [str(gene) for gene in result.genes],
        "groups": groups,
    }
    return _inside_script(json.dumps(data, allow_nan=False, separators=(",", ":")))


def _group(expression: DifferentialExpression, row: int, n_points: int) -> dict[str, Any]:
    result = expression.result
    lfc, adjusted = result.logfoldchanges[row], result.pvalues_adj[row]
    tested = np.isfinite(lfc) & np.isfinite(adjusted)
    order = result.order[row][tested[result.order[row]]]
    drawn = _thinned(order, n_points)
    gene_type = "<u2" if len(result.genes) <= 1 << 16 else "<u4"
    stored = np.clip(lfc[drawn], -MAX_LFC_STORED, MAX_LFC_STORED)
    heights = np.minimum(CEILING, -_log10(adjusted[drawn]))
    top = order[:N_TOP_GENES]
    columns = (
        _log10(result.pvalues[row, top]),
        _log10(adjusted[top]),
        lfc[top],
        result.pts_rest[row, top],
        result.pts[row, top],
    )
    return {
        "untested": int((~tested).sum()),
        "hidden": len(order) - len(drawn),
        "points": _packed(
            drawn.astype(gene_type),
            np.rint(stored / LFC_STEP).astype("<i2"),
            np.rint(heights / HEIGHT_STEP).astype("<u2"),
        ),
        "top": _packed(*(np.asarray(column).astype("<f4") for column in columns)),
    }


def _thinned(order: np.ndarray, n_points: int) -> np.ndarray:
    if len(order) <= n_points:
        return order
    first = n_points // 2
    rest = np.linspace(first, len(order) - 1, n_points - first).round().astype(np.int64)
    return np.concatenate([order[:first], order[rest]])


def _log10(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.log10(np.asarray(p, dtype=np.float64))
    return found


def _packed(*columns: np.ndarray) -> str:
    return base64.b64encode(b"".join(column.tobytes() for column in columns)).decode("ascii")


def _inside_script(text: str) -> str:
    # A name such as "</script>" must not end the element.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
