"""Differential expression and layouts (``cx.tl``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import pandas as pd

    from crispyx.data import AnnData, DiskUsage, OverlapResult
    from crispyx.de import CalibrationResult, RankGenesGroupsResult


class _ToolsNamespace:
    """Differential expression (``cx.tl``)."""

    def rank_genes_groups(
        self,
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
        """Compare every perturbation with the control.

        See :func:`crispyx.de.rank_genes_groups`.
        """
        from crispyx.de import rank_genes_groups

        return rank_genes_groups(
            data,
            perturbation_column=perturbation_column,
            groupby=groupby,
            method=method,
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

    def calibration(
        self, data: Any, *, perturbation_column: str, **kwargs: Any
    ) -> CalibrationResult:
        """Test control cells against control cells: which methods find what is not there.

        See :func:`crispyx.de.calibration`.
        """
        from crispyx.de import calibration

        return calibration(data, perturbation_column=perturbation_column, **kwargs)

    def umap(
        self,
        data: Any,
        min_dist: float = 0.5,
        spread: float = 1.0,
        n_components: int = 2,
        neighbors_key: str = "neighbors",
        random_state: int = 0,
        copy: bool = False,
    ) -> Any:
        """Lay the neighbor graph out in a few dimensions. See :func:`crispyx.dimred.umap`."""
        from crispyx.dimred import umap

        return umap(data, min_dist, spread, n_components, neighbors_key, random_state, copy)

    def energy_distance(
        self, data: Any, *, perturbation_column: str, **kwargs: Any
    ) -> pd.DataFrame:
        """Measure how far each perturbation's cells lie from the control's in an embedding.

        See :func:`crispyx.dimred.energy_distance`.
        """
        from crispyx.dimred import energy_distance

        return energy_distance(data, perturbation_column=perturbation_column, **kwargs)

    def shrink_lfc(
        self,
        data: Any,
        *,
        output_dir: str | Path | None = None,
        data_name: str | None = None,
        method: str = "stats",
        prior_scale_mode: str = "global",
        min_mu: float = 0.0,
        n_jobs: int = -1,
        batch_size: int = 128,
        profiling: bool = False,
        memory_limit_gb: float | None = None,
        output_path: str | Path | None = None,
        resume: bool = False,
        force: bool = False,
        verbose: bool = False,
    ) -> RankGenesGroupsResult:
        """Shrink the fold changes of a negative binomial result towards 0 (apeGLM).

        See :func:`crispyx.de.shrink_lfc`.
        """
        from crispyx.de import shrink_lfc

        return shrink_lfc(
            data,
            output_dir=output_dir,
            data_name=data_name,
            method=method,
            prior_scale_mode=prior_scale_mode,
            min_mu=min_mu,
            n_jobs=n_jobs,
            batch_size=batch_size,
            profiling=profiling,
            memory_limit_gb=memory_limit_gb,
            output_path=output_path,
            resume=resume,
            force=force,
            verbose=verbose,
        )

    def residual_effects(self, data: Any, *, perturbation_column: str, **kwargs: Any) -> AnnData:
        """Estimate effects beside covariates. See :func:`crispyx.de.residual_effects`."""
        from crispyx.de import residual_effects

        return residual_effects(data, perturbation_column=perturbation_column, **kwargs)

    def estimate_disk_usage(self, operation: Any, data: Any, **kwargs: Any) -> DiskUsage:
        """Say how much will be written. See :func:`crispyx.data.estimate_disk_usage`."""
        from crispyx.data import estimate_disk_usage

        return estimate_disk_usage(operation, data, **kwargs)

    def batch_process(self, data: Any, reducer: Any, merge: Any = None, **kwargs: Any) -> Any:
        """Compute something over blocks of cells. See :func:`crispyx.data.batch_process`."""
        from crispyx.data import batch_process

        return batch_process(data, reducer, merge, **kwargs)

    def compute_overlap(self, sets_dict: Any, *, metric: str = "both") -> OverlapResult:
        """Count what every two of several named sets have in common.

        See :func:`crispyx.data.compute_overlap`.
        """
        from crispyx.data import compute_overlap

        return compute_overlap(sets_dict, metric=cast("Any", metric))

    def guide_concordance(
        self,
        result: RankGenesGroupsResult,
        guide_to_target: Mapping[str, str],
        *,
        alpha: float = 0.05,
        per: Literal["pair", "target"] = "pair",
    ) -> pd.DataFrame:
        """Compare the effects of the guides of each target, pair by pair.

        See :func:`crispyx.de.guide_concordance`.
        """
        from crispyx.de import guide_concordance

        return guide_concordance(result, guide_to_target, alpha=alpha, per=per)
