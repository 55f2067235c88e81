"""Plots (``cx.pl``)."""

from __future__ import annotations

from typing import Any


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

    def overlap_heatmap(self, result: Any, **kwargs: Any) -> Any:
        """Draw how much every two sets share.

        See :func:`crispyx.plotting.plot_overlap_heatmap`.
        """
        from crispyx.plotting import plot_overlap_heatmap

        return plot_overlap_heatmap(result, **kwargs)

    def effect_heatmap(self, data: Any, **kwargs: Any) -> Any:
        """Draw how alike the effects of perturbations are, clustered.

        See :func:`crispyx.plotting.plot_effect_heatmap`.
        """
        from crispyx.plotting import plot_effect_heatmap

        return plot_effect_heatmap(data, **kwargs)

    def on_target(self, data: Any, **kwargs: Any) -> Any:
        """Draw what each perturbation does to its own gene.

        See :func:`crispyx.plotting.plot_on_target`.
        """
        from crispyx.plotting import plot_on_target

        return plot_on_target(data, **kwargs)

    def on_target_df(self, data: Any, **kwargs: Any) -> Any:
        """Return what each perturbation does to its own gene, as a table.

        See :func:`crispyx.plotting.on_target_df`.
        """
        from crispyx.plotting import on_target_df

        return on_target_df(data, **kwargs)

    def energy_distance(self, table: Any, **kwargs: Any) -> Any:
        """Draw how far each perturbation moves its cells.

        See :func:`crispyx.plotting.plot_energy_distance`.
        """
        from crispyx.plotting import plot_energy_distance

        return plot_energy_distance(table, **kwargs)

    def calibration(self, result: Any, **kwargs: Any) -> Any:
        """Draw p-values where nothing has an effect, by method, mean count and depth.

        See :func:`crispyx.plotting.plot_calibration`.
        """
        from crispyx.plotting import plot_calibration

        return plot_calibration(result, **kwargs)
