"""Pseudo-bulk estimators (``cx.pb``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crispyx.data import AnnData


class _PseudobulkNamespace:
    """Pseudo-bulk estimators (``cx.pb``)."""

    def average_log_expression(
        self,
        data: Any,
        *,
        perturbation_column: str,
        control_label: str | None = None,
        gene_name_column: str | None = None,
        perturbations: Iterable[str] | None = None,
        chunk_size: int = 2048,
        output_dir: str | Path | None = None,
        data_name: str | None = None,
        layer: str | None = None,
        output_path: str | Path | None = None,
        memory_limit_gb: float | None = None,
        resume: bool = False,
        force: bool = False,
        executor: Any = None,
    ) -> AnnData:
        """Compute the mean log-normalized expression of every perturbation and its effect.

        See :func:`crispyx.pseudobulk.compute_average_log_expression`.
        """
        from crispyx.pseudobulk import compute_average_log_expression

        return compute_average_log_expression(
            data,
            perturbation_column=perturbation_column,
            control_label=control_label,
            gene_name_column=gene_name_column,
            perturbations=perturbations,
            chunk_size=chunk_size,
            output_dir=output_dir,
            data_name=data_name,
            layer=layer,
            output_path=output_path,
            memory_limit_gb=memory_limit_gb,
            resume=resume,
            force=force,
            executor=executor,
        )

    def pseudobulk(
        self,
        data: Any,
        *,
        perturbation_column: str,
        control_label: str | None = None,
        gene_name_column: str | None = None,
        perturbations: Iterable[str] | None = None,
        baseline_count: float = 1.0,
        chunk_size: int = 2048,
        output_dir: str | Path | None = None,
        data_name: str | None = None,
        layer: str | None = None,
        output_path: str | Path | None = None,
        memory_limit_gb: float | None = None,
        resume: bool = False,
        force: bool = False,
        executor: Any = None,
    ) -> AnnData:
        """Compute pseudo-bulk log fold changes of every perturbation.

        See :func:`crispyx.pseudobulk.compute_pseudobulk_expression`.
        """
        from crispyx.pseudobulk import compute_pseudobulk_expression

        return compute_pseudobulk_expression(
            data,
            perturbation_column=perturbation_column,
            control_label=control_label,
            gene_name_column=gene_name_column,
            perturbations=perturbations,
            baseline_count=baseline_count,
            chunk_size=chunk_size,
            output_dir=output_dir,
            data_name=data_name,
            layer=layer,
            output_path=output_path,
            memory_limit_gb=memory_limit_gb,
            resume=resume,
            force=force,
            executor=executor,
        )

    def aggregate(self, data: Any, *, groupby: str | Sequence[str], **kwargs: Any) -> AnnData:
        """Add up, or average, the cells of every combination of values of obs columns.

        See :func:`crispyx.pseudobulk.aggregate`.
        """
        from crispyx.pseudobulk import aggregate

        return aggregate(data, groupby=groupby, **kwargs)

    def effects(self, data: Any, *, perturbation_column: str, **kwargs: Any) -> AnnData:
        """Compute mean log expression, perturbed minus control, within every batch.

        See :func:`crispyx.pseudobulk.effects`.
        """
        from crispyx.pseudobulk import effects

        return effects(data, perturbation_column=perturbation_column, **kwargs)

    def normalized_effects(self, data: Any, *, perturbation_column: str, **kwargs: Any) -> AnnData:
        """Compute effects on depth-normalized expression, within batches where asked for.

        See :func:`crispyx.pseudobulk.normalized_effects`.
        """
        from crispyx.pseudobulk import normalized_effects

        return normalized_effects(data, perturbation_column=perturbation_column, **kwargs)
