"""One door for all tests, with scanpy's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from crispyx.de.nb_glm import nb_glm_test
from crispyx.de.results import RankGenesGroupsResult
from crispyx.de.t_test import t_test
from crispyx.de.wilcoxon import wilcoxon_test
from crispyx.errors import InputError

METHODS: dict[str, Callable[..., RankGenesGroupsResult]] = {
    "wilcoxon": wilcoxon_test,
    "t-test": t_test,
    "t_test": t_test,
    "nb_glm": nb_glm_test,
    "nb-glm": nb_glm_test,
}


def rank_genes_groups(
    data: Any,
    *,
    perturbation_column: str | None = None,
    groupby: str | None = None,
    method: str = "wilcoxon",
    control_label: str | None = None,
    reference: str | None = None,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
    output_dir: str | Path | None = None,
    data_name: str | None = None,
    corr_method: str = "benjamini-hochberg",
    verbose: int | bool = False,
    resume: bool = False,
    memory_limit_gb: float | None = None,
    force: bool = False,
    **kwargs: Any,
) -> RankGenesGroupsResult:
    """Compare every perturbation with the control by the method of choice.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        The screen, normalized and log-transformed; counts for ``"nb_glm"``.
    method : {"wilcoxon", "t-test", "nb_glm"}
        :func:`crispyx.de.wilcoxon_test`, :func:`crispyx.de.t_test` (also ``"t_test"``) or
        :func:`crispyx.de.nb_glm_test` (also ``"nb-glm"``).
    perturbation_column, groupby, control_label, reference, gene_name_column, perturbations
        As in those functions.
    output_dir, data_name, corr_method, verbose, resume, memory_limit_gb, force
        Likewise.
    **kwargs
        Further arguments of the chosen function.

    Returns
    -------
    RankGenesGroupsResult
        Its ``.result`` is the file as a crispyx.AnnData.

    Raises
    ------
    InputError
        Unknown method.
    TypeError
        An argument the chosen function does not have.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}; choose 'wilcoxon', 't-test' or 'nb_glm'")
    return METHODS[method](
        data,
        perturbation_column=perturbation_column,
        groupby=groupby,
        control_label=control_label,
        reference=reference,
        gene_name_column=gene_name_column,
        perturbations=perturbations,
        output_dir=output_dir,
        data_name=data_name,
        corr_method=corr_method,
        verbose=verbose,
        resume=resume,
        memory_limit_gb=memory_limit_gb,
        force=force,
        **kwargs,
    )
