"""Quality control, normalization, components (``cx.pp``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from crispyx.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from crispyx.data import AnnData, TenxCounts


class _PreprocessingNamespace:
    """Quality control and normalization (``cx.pp``)."""

    def read_10x(
        self,
        path: str | Path,
        output_path: str | Path | None = None,
        *,
        guides_path: str | Path | None = None,
        expression_type: str = "Gene Expression",
        guide_type: str = "CRISPR Guide Capture",
        output_dir: str | Path | None = None,
        data_name: str | None = None,
        memory_limit_gb: float | None = None,
        force: bool = False,
    ) -> TenxCounts:
        """Read a 10x matrix, its genes and its guides apart. See :func:`crispyx.data.read_10x`."""
        from crispyx.data import read_10x

        return read_10x(
            path,
            output_path,
            guides_path=guides_path,
            expression_type=expression_type,
            guide_type=guide_type,
            output_dir=output_dir,
            data_name=data_name,
            memory_limit_gb=memory_limit_gb,
            force=force,
        )

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
        memory_limit_gb: float | None = None,
        output_path: str | Path | None = None,
        force: bool = False,
        resume: bool = False,
        executor: Any = None,
    ) -> AnnData:
        """Filter cells, perturbations and genes; write and return the filtered file.

        Without ``output_dir`` and ``output_path`` the file is written beside the input. See
        :func:`crispyx.qc.quality_control_summary`, which also returns the masks and counts.
        """
        from crispyx.data import resolve_data_path
        from crispyx.qc import quality_control_summary

        if getattr(data, "isbacked", None) is False and output_dir is output_path is None:
            raise InputError(
                "an AnnData in memory has no folder for the output; give output_dir= or "
                "output_path="
            )
        if output_dir is None and output_path is None:
            output_dir = resolve_data_path(data).parent
        result = quality_control_summary(
            data,
            min_genes=min_genes,
            min_cells_per_perturbation=min_cells_per_perturbation,
            min_cells_per_gene=min_cells_per_gene,
            perturbation_column=perturbation_column,
            control_label=control_label,
            gene_name_column=gene_name_column,
            chunk_size=chunk_size,
            output_dir=output_dir,
            data_name=data_name,
            cache_mode=cache_mode,
            memory_limit_gb=memory_limit_gb,
            output_path=output_path,
            force=force,
            resume=resume,
            executor=executor,
        )
        assert result.filtered is not None  # an output was given
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
        force: bool = False,
        resume: bool = False,
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
            force=force,
            resume=resume,
        )

    def concat_h5ad(self, paths: Any, output_path: str | Path, **kwargs: Any) -> AnnData:
        """Join several data sets into one file. See :func:`crispyx.data.concat_h5ad`."""
        from crispyx.data import concat_h5ad

        return concat_h5ad(paths, output_path, **kwargs)

    def subsample(
        self, data: Any, n_obs: int | None = None, fraction: float | None = None, **kwargs: Any
    ) -> AnnData:
        """Write a copy with some of the cells. See :func:`crispyx.data.subsample`."""
        from crispyx.data import subsample

        return subsample(data, n_obs, fraction, **kwargs)

    def downsample_counts(self, data: Any, **kwargs: Any) -> AnnData:
        """Write a copy with fewer molecules. See :func:`crispyx.data.downsample_counts`."""
        from crispyx.data import downsample_counts

        return downsample_counts(data, **kwargs)

    def highly_variable_genes(self, data: Any, **kwargs: Any) -> Any:
        """Mark the genes that vary most. See :func:`crispyx.dimred.highly_variable_genes`."""
        from crispyx.dimred import highly_variable_genes

        return highly_variable_genes(data, **kwargs)

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
        *,
        executor: Any = None,
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
            executor=executor,
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
        memory_limit_gb: float | None = None,
        force: bool = False,
        resume: bool = False,
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
            memory_limit_gb=memory_limit_gb,
            force=force,
            resume=resume,
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
        memory_limit_gb: float | None = None,
        force: bool = False,
        resume: bool = False,
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
            memory_limit_gb=memory_limit_gb,
            force=force,
            resume=resume,
        )
