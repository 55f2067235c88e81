"""The numbers behind the volcano plots and gene lists of the page, as JSON inside it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from crispyx.report.content import DifferentialExpression
from crispyx.report.numbers import lfc_text, p_text, percent_text

# Bounds the page: the most significant genes are all there, the others thinned evenly.
MAX_POINTS = 25_000
MIN_POINTS_EACH = 200
MAX_VOLCANOES = 300
N_TOP_GENES = 15
CEILING = 300.0


def volcano_json(expression: DifferentialExpression) -> str:
    """Return the data as JSON that may stand inside a script element.

    One entry per perturbation with the most hits (at most 300): name, cells, points (gene number,
    log2 fold change, -log10 adjusted p), number of untested and of left-out genes, own target, and
    the top genes ready to print.
    """
    result = expression.result
    row_of = {label: row for row, label in enumerate(result.groups)}
    chosen = sorted(expression.perturbations, key=lambda one: -one.n_hits)[:MAX_VOLCANOES]
    kept = {one.perturbation for one in chosen}
    points_each = max(MIN_POINTS_EACH, MAX_POINTS // max(1, len(chosen)))
    number = {str(gene): place for place, gene in enumerate(result.genes)}
    groups = []
    for one in expression.perturbations:
        if one.perturbation in kept:
            group = _group(expression, row_of[one.perturbation], points_each)
            target = None if one.target is None else number[one.target.gene]
            groups.append(
                {
                    "name": one.perturbation,
                    "cells": one.n_cells,
                    "lowered": one.n_lowered,
                    "raised": one.n_raised,
                    "target": target,
                    **group,
                }
            )
    data = {
        "alpha": expression.alpha,
        "control": result.control_label,
        "genes": [str(gene) for gene in result.genes],
        "groups": groups,
    }
    return _inside_script(json.dumps(data, allow_nan=False, separators=(",", ":")))


def _group(expression: DifferentialExpression, row: int, n_points: int) -> dict[str, Any]:
    result = expression.result
    lfc, p = result.logfoldchanges[row], result.pvalues_adj[row]
    tested = np.isfinite(lfc) & np.isfinite(p)
    order = result.order[row][tested[result.order[row]]]
    drawn = _thinned(order, n_points)
    return {
        "points": [
            [int(gene), round(float(lfc[gene]), 3), round(_height(float(p[gene])), 2)]
            for gene in drawn
        ],
        "untested": int((~tested).sum()),
        "hidden": len(order) - len(drawn),
        "top": [_top_gene(expression, row, int(gene)) for gene in order[:N_TOP_GENES]],
    }


def _thinned(order: np.ndarray, n_points: int) -> np.ndarray:
    if len(order) <= n_points:
        return order
    first = n_points // 2
    rest = np.linspace(first, len(order) - 1, n_points - first).round().astype(np.int64)
    return np.concatenate([order[:first], order[rest]])


def _height(p: float) -> float:
    return CEILING if p <= 10**-CEILING else -math.log10(p)


def _top_gene(expression: DifferentialExpression, row: int, gene: int) -> list[Any]:
    result = expression.result
    return [
        gene,
        lfc_text(float(result.logfoldchanges[row, gene])),
        p_text(float(result.pvalues[row, gene])),
        p_text(float(result.pvalues_adj[row, gene])),
        percent_text(float(result.pts_rest[row, gene])),
        percent_text(float(result.pts[row, gene])),
        bool(result.pvalues_adj[row, gene] <= expression.alpha),
    ]


def _inside_script(text: str) -> str:
    # A name such as "</script>" must not end the element.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
