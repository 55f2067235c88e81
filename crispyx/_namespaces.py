"""The four namespaces of the public API: ``cx.pp``, ``cx.pb``, ``cx.tl`` and ``cx.pl``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from crispyx.data import AnnData, OverlapResult
    from crispyx.de import RankGenesGroupsResult


class _PreprocessingNamespace:
    """Quality control and normalization (``cx.pp``)."""

    def filter_cells(
        self,
        data: Any,
        *,
        min_genes: int = 100,
        gene_name_column: str | None = None,
        chunk_size: int = 2048,
    ) -> np.ndarray:
        """Return a mask of cells with enough expressed genes.

        See :func:`crispyx.qc.filter_cells_by_gene_count`.
        """
        from crispyx.qc import filter_cells_by_gene_count

        mask = filter_cells_by_gene_count(
            data, min_genes=min_genes, gene_name_column=gene_name_column, chunk_size=chunk_size
        )
        return cast("np.ndarray", mask)

    def filter_genes(
        self,
        data: Any,
        *,
        min_cells: int = 100,
        cell_mask: np.ndarray | None = None,
        gene_name_column: str | None = None,
        chunk_size: int = 2048,
    ) -> np.ndarray:
        """Return a mask of genes with enough expressing cells.

        See :func:`crispyx.qc.filter_genes_by_cell_count`.
        """
        from crispyx.qc import filter_genes_by_cell_count

        mask = filter_genes_by_cell_count(
            data,
            min_cells=min_cells,
            cell_mask=cell_mask,
            gene_name_column=gene_name_column,
            chunk_size=chunk_size,
        )
        return cast("np.ndarray", mask)

    def filter_perturbations(
        self,
        data: Any,
        *,
        perturbation_column: str,
        control_label: str | None = None,
        min_cells: int = 50,
        base_mask: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return a mask of cells whose perturbation has enough cells.

        See :func:`crispyx.qc.filter_perturbations_by_cell_count`.
        """
        from crispyx.qc import filter_perturbations_by_cell_count

        mask = filter_perturbations_by_cell_count(
            data,
            perturbation_column=perturbation_column,
            control_label=control_label,
            min_cells=min_cells,
            base_mask=base_mask,
        )
        return cast("np.ndarray", mask)

    def qc_summary(
        self,
        data: Any,
        *,
        min_genes: int = 100,
        min_cells_per_perturbation: int = 50,
        min_cells_per_gene: int = 100,
        perturbation_column: str,
        control_label: str | None = None,
        gene_name_column: str | None = None,
        chunk_size: int = 2048,
        output_dir: str | Path | None = None,
        data_name: str | None = None,
        cache_mode: Literal["memory", "memmap", "none"] = "memmap",
    ) -> AnnData:
        """Filter cells, perturbations and genes; write and return the filtered file.

        Without ``output_dir`` the file is written beside the input. See
        :func:`crispyx.qc.quality_control_summary`, which also returns the masks and counts.
        """
        from crispyx.data import resolve_data_path
        from crispyx.qc import quality_control_summary

        result = quality_control_summary(
            data,
            min_genes=min_genes,
            min_cells_per_perturbation=min_cells_per_perturbation,
            min_cells_per_gene=min_cells_per_gene,
            perturbation_column=perturbation_column,
            control_label=control_label,
            gene_name_column=gene_name_column,
            chunk_size=chunk_size,
            output_dir=resolve_data_path(data).parent if output_dir is None else output_dir,
            data_name=data_name,
            cache_mode=cache_mode,
        )
        assert result.filtered is not None  # an output folder was given
        return result.filtered

    def normalize_total_log1p(
        self,
        data: Any,
        output_path: str | Path | None = None,
        *,
        normalize: bool = True,
        log1p: bool = True,
        target_sum: float = 10000.0,
        chunk_size: int = 4096,
        output_dir: str | Path | None = None,
        data_name: str | None = None,
        verbose: bool = True,
    ) -> AnnData:
        """Write a normalized, log-transformed copy.

        See :func:`crispyx.data.normalize_total_log1p`.
        """
        from crispyx.data import normalize_total_log1p

        return normalize_total_log1p(
            data,
            output_path,
            normalize=normalize,
            log1p=log1p,
            target_sum=target_sum,
            chunk_size=chunk_size,
            output_dir=output_dir,
            data_name=data_name,
            verbose=verbose,
        )

    def pca(
        self,
        data: Any,
        n_comps: int = 50,
        method: str = "auto",
        use_highly_variable: bool = True,
        chunk_size: int | None = None,
        random_state: int = 0,
        copy: bool = False,
        show_progress: bool = True,
    ) -> Any:
        """Find the directions of largest variance. See :func:`crispyx.dimred.pca`."""
        from crispyx.dimred import pca

        return pca(
            data,
            n_comps,
            method,
            use_highly_variable,
            chunk_size,
            random_state,
            copy,
            show_progress,
        )

    def neighbors(
        self,
        data: Any,
        n_neighbors: int = 15,
        n_pcs: int | None = None,
        use_rep: str = "X_pca",
        metric: str = "euclidean",
        method: str = "umap",
        random_state: int = 0,
        copy: bool = False,
        show_progress: bool = True,
    ) -> Any:
        """Connect every cell with its nearest neighbors. See :func:`crispyx.dimred.neighbors`."""
        from crispyx.dimred import neighbors

        return neighbors(
            data,
            n_neighbors,
            n_pcs,
            use_rep,
            metric,
            method,
            random_state,
            copy,
            show_progress,
        )

    def convert_to_csc(
        self,
        data: Any,
        *,
        output_path: str | Path | None = None,
        chunk_size: int = 4096,
        output_dir: str | Path | None = None,
        data_name: str | None = None,
        verbose: bool = True,
    ) -> AnnData:
        """Write a copy with X stored by columns.

        See :func:`crispyx.data.convert_to_csc`.
        """
        from crispyx.data import convert_to_csc

        return convert_to_csc(
            data,
            output_path=output_path,
            chunk_size=chunk_size,
            output_dir=output_dir,
            data_name=data_name,
            verbose=verbose,
        )

    def convert_to_csr(
        self,
        data: Any,
        *,
        output_path: str | Path | None = None,
        chunk_size: int | None = None,
        output_dir: str | Path | None = None,
        data_name: str | None = None,
        verbose: bool = True,
    ) -> AnnData:
        """Write a copy with X stored by rows.

        See :func:`crispyx.data.convert_to_csr`.
        """
        from crispyx.data import convert_to_csr

        return convert_to_csr(
            data,
            output_path=output_path,
            chunk_size=chunk_size,
            output_dir=output_dir,
            data_name=data_name,
            verbose=verbose,
        )


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


class _PlottingNamespace:
    """Plots (``cx.pl``)."""

    def rank_genes_groups(self, data: Any, groups: Any = None, **kwargs: Any) -> Any:
        """Draw the first genes of each perturbation, as scanpy does.

        See :func:`crispyx.plotting.rank_genes_groups`.
        """
        from crispyx.plotting import rank_genes_groups

        return rank_genes_groups(data, groups, **kwargs)

    def rank_genes_groups_df(self, data: Any, group: str, **kwargs: Any) -> Any:
        """Return the genes of one perturbation by falling absolute score.

        See :func:`crispyx.plotting.rank_genes_groups_df`.
        """
        from crispyx.plotting import rank_genes_groups_df

        return rank_genes_groups_df(data, group, **kwargs)

    def volcano(self, **kwargs: Any) -> Any:
        """Draw a volcano plot of one perturbation.

        See :func:`crispyx.plotting.plot_volcano`.
        """
        from crispyx.plotting import plot_volcano

        return plot_volcano(**kwargs)

    def ma(self, **kwargs: Any) -> Any:
        """Draw fold change against mean expression of one perturbation.

        See :func:`crispyx.plotting.plot_ma`.
        """
        from crispyx.plotting import plot_ma

        return plot_ma(**kwargs)

    def top_genes_bar(self, **kwargs: Any) -> Any:
        """Draw the scores of the genes a perturbation changes most.

        See :func:`crispyx.plotting.plot_top_genes_bar`.
        """
        from crispyx.plotting import plot_top_genes_bar

        return plot_top_genes_bar(**kwargs)

    def qc_perturbation_counts(self, **kwargs: Any) -> Any:
        """Draw how many cells each perturbation has.

        See :func:`crispyx.plotting.plot_qc_perturbation_counts`.
        """
        from crispyx.plotting import plot_qc_perturbation_counts

        return plot_qc_perturbation_counts(**kwargs)

    def qc_summary(self, qc_result: Any, **kwargs: Any) -> Any:
        """Draw the distributions behind quality control.

        See :func:`crispyx.plotting.plot_qc_summary`.
        """
        from crispyx.plotting import plot_qc_summary

        return plot_qc_summary(qc_result, **kwargs)

    def guide_fit(self, scores: Any, guide: str | None = None, **kwargs: Any) -> Any:
        """Draw a guide's counts, the components fitted to them, and where calls begin.

        See :func:`crispyx.plotting.guide_fit`.
        """
        from crispyx.plotting import guide_fit

        return guide_fit(scores, guide, **kwargs)

    def guide_summary(self, calls: Any, **kwargs: Any) -> Any:
        """Draw the UMIs behind guide calls, guides per cell, and the calls of every guide.

        See :func:`crispyx.plotting.guide_summary`.
        """
        from crispyx.plotting import guide_summary

        return guide_summary(calls, **kwargs)

    def guide_comparison(self, comparison: Any, **kwargs: Any) -> Any:
        """Draw how far the guide calls of several models agree, and how many each makes.

        See :func:`crispyx.plotting.guide_comparison`.
        """
        from crispyx.plotting import guide_comparison

        return guide_comparison(comparison, **kwargs)

    def materialize_rank_genes_groups(self, data: Any, **kwargs: Any) -> Any:
        """Return a small AnnData that carries a result for scanpy's plots.

        See :func:`crispyx.plotting.materialize_rank_genes_groups`.
        """
        from crispyx.plotting import materialize_rank_genes_groups

        return materialize_rank_genes_groups(data, **kwargs)

    def pca(self, data: Any, **kwargs: Any) -> Any:
        """Draw the cells in two principal components.

        See :func:`crispyx.plotting.plot_pca`.
        """
        from crispyx.plotting import plot_pca

        return plot_pca(data, **kwargs)

    def pca_variance_ratio(self, data: Any, **kwargs: Any) -> Any:
        """Draw the share of the variance that each principal component holds.

        See :func:`crispyx.plotting.plot_pca_variance_ratio`.
        """
        from crispyx.plotting import plot_pca_variance_ratio

        return plot_pca_variance_ratio(data, **kwargs)

    def pca_loadings(self, data: Any, **kwargs: Any) -> Any:
        """Draw the genes with the largest loadings.

        See :func:`crispyx.plotting.plot_pca_loadings`.
        """
        from crispyx.plotting import plot_pca_loadings

        return plot_pca_loadings(data, **kwargs)

    def umap(self, data: Any, **kwargs: Any) -> Any:
        """Draw the cells in the layout of UMAP.

        See :func:`crispyx.plotting.plot_umap`.
        """
        from crispyx.plotting import plot_umap

        return plot_umap(data, **kwargs)
