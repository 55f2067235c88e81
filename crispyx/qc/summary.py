"""All three filters, and the filtered file."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from crispyx._io.chunk_cache import CacheMode, ChunkCache
from crispyx._io.placed import MatrixForm
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.subset import Subset
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.shared_input import Readers, executor_for, readers_of
from crispyx._jobs.subset_job import write_subset
from crispyx._run.fingerprint import fingerprint
from crispyx._stats.qc import cells_per_label, kept_perturbations
from crispyx.data.arguments import PathLike, output_of, whole
from crispyx.data.genes import gene_symbols
from crispyx.data.ondisk import AnnData
from crispyx.errors import CrispyxWarning, InputError
from crispyx.qc.counts import count_expressed, count_rich_cells
from crispyx.qc.labels import CellLabels, cell_labels
from crispyx.qc.plan import plan_passes
from crispyx.qc.result import QualityControlResult
from crispyx.settings import Engine, settings

_log = logging.getLogger("crispyx.qc")


@dataclass(frozen=True)
class Thresholds:
    """Inclusive lower bounds of the three filters."""

    min_genes: int
    min_cells_per_perturbation: int
    min_cells_per_gene: int


@dataclass(frozen=True)
class _Masks:
    """What the filters keep, and the counts they decided on."""

    cells: np.ndarray
    genes: np.ndarray
    perturbations: dict[str, bool]
    genes_per_cell: np.ndarray
    cells_per_gene: np.ndarray


def quality_control_summary(
    data: Any,
    *,
    min_genes: int = 100,
    min_cells_per_perturbation: int = 50,
    min_cells_per_gene: int = 100,
    perturbation_column: str,
    control_label: str | None = None,
    gene_name_column: str | None = None,
    chunk_size: int | None = None,
    memory_limit_gb: float | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    cache_mode: Literal["memory", "memmap", "none"] = "memmap",
    delta_threshold: float = 0.3,
    force_streaming: bool = False,
    output_path: PathLike | None = None,
    force: bool = False,
    resume: bool = False,
    executor: Any = None,
) -> QualityControlResult:
    """Filter cells, then perturbations, then genes, and write what is left.

    1. Cells that express at least ``min_genes`` genes are kept (a value above 0 is expression).
    2. Perturbations with at least ``min_cells_per_perturbation`` of those cells are kept; the
       control always is. Cells without a label are dropped, with a warning.
    3. Genes that at least ``min_cells_per_gene`` of the remaining cells express are kept.

    A matrix that fits into the memory budget is read once; a larger one is streamed, by columns
    when it is stored as CSC, else by rows. The answer is the same for every layout, strategy, cache
    and block size.

    Parameters
    ----------
    data : str, pathlib.Path, AnnData or anndata.AnnData
        Counts, on disk or in memory.
    min_genes, min_cells_per_perturbation, min_cells_per_gene : int
        Inclusive thresholds.
    perturbation_column : str
        obs column of labels.
    control_label : str or None
        Label of the control; None infers it, see :func:`crispyx.data.resolve_control_label`.
    gene_name_column : str or None
        var column that fills ``gene_symbols`` of the output; None takes ``var_names``, and leaves a
        column of that name alone.
    chunk_size : int or None
        Cells of a block at most (genes of a CSC matrix); None lets the memory budget decide.
    memory_limit_gb : float or None
        Memory of the whole process in GB (1e9 bytes), which decides strategy and block size; None
        takes ``settings.memory_limit_gb``, else half of what is free.
    output_dir : str or pathlib.Path or None
        Folder of ``crispyx_filtered.h5ad``; None, without ``output_path``, writes no file.
    data_name : str or None
        Name of the data set in the output's name.
    cache_mode : {"memory", "memmap", "none"}
        What the later passes over a matrix streamed by rows read: blocks kept in memory, in a
        scratch file (in ``settings.scratch_dir``, else the output's folder; removed afterwards), or
        the source again.
    delta_threshold : float
        The first pass counts the expressing cells per gene without the cells that are known to be
        dropped by then. When at most this fraction of the cells is dropped later, they are counted
        and subtracted; else the kept cells are counted afresh. Both give the same integers.
    force_streaming : bool
        Stream a small matrix too.
    output_path : str or pathlib.Path or None
        Output file, instead of the conventional name.
    force : bool
        Write again and replace whatever stands under the output's name. Otherwise the file of the
        same computation is left alone and a file of another origin is an error.
    resume : bool
        Continue writing the file of an interrupted run; masks and counts are found anew.
    executor : {"threads", "processes"}, Executor, dask.distributed.Client or None
        What counts ranges of cells (of genes, of a CSC matrix); None takes
        ``crispyx.settings.executor``, else this process, which writes the file in any case. Others
        read the input in every pass: ``cache_mode`` is without effect then.

    Returns
    -------
    QualityControlResult
        Masks and counts, and the filtered file: X in the layout, type and values of the input,
        every other slot cut to the kept cells and genes, unused categories removed.

    Raises
    ------
    ValueError
        Nothing is left; negative, NaN or infinite values; the control is absent; a threshold
        below 0.
    KeyError
        No such column.
    FileExistsError
        Another input's result, or a file of another origin, stands under the output's name.

    Notes
    -----
    Reference: ``reference.qc``.
    """
    limits = Thresholds(
        whole("min_genes", min_genes, 0),
        whole("min_cells_per_perturbation", min_cells_per_perturbation, 0),
        whole("min_cells_per_gene", min_cells_per_gene, 0),
    )
    delta = _fraction("delta_threshold", delta_threshold)
    if cache_mode not in get_args(CacheMode):
        raise InputError(f"cache_mode is {cache_mode!r}; choose one of {get_args(CacheMode)}")
    if chunk_size is not None:
        chunk_size = whole("chunk_size", chunk_size, 1)
    engine = settings.engine
    executor = executor_for(executor, data)
    with open_source(data) as source:
        labels = cell_labels(source, perturbation_column, control_label)
        columns = _gene_columns(source, gene_name_column)
        output = None
        if output_path is not None or output_dir is not None:
            output = output_of(source, "filtered", output_path, output_dir, data_name)
        identity = fingerprint(
            "filtered",
            source.identity(),
            {
                **asdict(limits),
                "perturbation_column": perturbation_column,
                "control_label": labels.control,
                "gene_name_column": gene_name_column,
            },
        )
        reuse = output is not None and can_reuse(output, identity, force=force)
        passes = plan_passes(
            source,
            cache_mode,
            chunk_size=chunk_size,
            memory_limit_gb=memory_limit_gb,
            force_streaming=force_streaming,
            output=output,
            engine=engine,
        )
        if executor is not None:
            passes = replace(passes, cache="none")
        with (
            passes.open(source) as cache,
            readers_of(source, data, None, executor, output=output, label="counts") as readers,
        ):
            masks = _masks(cache, labels, limits, delta, engine, readers)
            if output is not None and not reuse:
                _write(cache, masks, columns, output, identity, resume=resume)
    return QualityControlResult(
        cell_mask=masks.cells,
        gene_mask=masks.genes,
        perturbation_keep=masks.perturbations,
        filtered=None if output is None else AnnData(output),
        cell_gene_counts=masks.genes_per_cell,
        gene_cell_counts=masks.cells_per_gene,
    )


def _fraction(name: str, value: Any) -> float:
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise InputError(f"{name} is {value!r}; give a fraction of the cells between 0 and 1")
    return float(value)


def _gene_columns(source: MatrixSource, gene_name_column: str | None) -> dict[str, np.ndarray]:
    if gene_name_column is None and "gene_symbols" in source.var.columns:
        return {}
    return {"gene_symbols": gene_symbols(source, gene_name_column)}


def _masks(
    cache: ChunkCache,
    labels: CellLabels,
    limits: Thresholds,
    delta: float,
    engine: Engine,
    readers: Readers | None,
) -> _Masks:
    everyone = np.ones(cache.source.shape[0], dtype=bool)
    least = limits.min_cells_per_perturbation
    large = kept_perturbations(labels.values, everyone, labels.control, least, engine)
    candidates = labels.belongs_to(large)
    counts = count_rich_cells(cache, engine, candidates, limits.min_genes, readers)
    survives = counts.genes_per_cell >= limits.min_genes
    keep = kept_perturbations(labels.values, survives, labels.control, least, engine)
    cells = survives & labels.belongs_to(keep)
    _require_cells(cache.source, counts.genes_per_cell, survives, cells, labels, limits)
    counted = everyone if cache.source.layout == "csc" else candidates & survives
    per_gene = _expressing_cells(
        cache, counts.cells_per_gene, counted, cells, delta, engine, readers
    )
    genes = per_gene >= limits.min_cells_per_gene
    _require_genes(cache.source, per_gene, genes, cells, limits)
    n_kept = sum(keep.values())
    _log.info(
        "kept %d of %d cells, %d of %d labels (control included), %d of %d genes",
        *(int(cells.sum()), len(cells), n_kept, len(keep), int(genes.sum()), len(genes)),
    )
    return _Masks(cells, genes, keep, counts.genes_per_cell, per_gene)


def _expressing_cells(
    cache: ChunkCache,
    over_counted: np.ndarray,
    counted: np.ndarray,
    cells: np.ndarray,
    delta: float,
    engine: Engine,
    readers: Readers | None,
) -> np.ndarray:
    """Return the kept cells that express each gene, from the counts over more cells."""
    dropped = counted & ~cells
    if not dropped.any():
        return over_counted
    if dropped.mean() <= delta:
        return over_counted - count_expressed(cache, engine, dropped, readers).cells_per_gene
    return count_expressed(cache, engine, cells, readers).cells_per_gene


def _require_cells(
    source: MatrixSource,
    genes_per_cell: np.ndarray,
    survives: np.ndarray,
    cells: np.ndarray,
    labels: CellLabels,
    limits: Thresholds,
) -> None:
    where = source.path or source.where
    if not survives.any():
        raise InputError(
            f"min_genes={limits.min_genes} drops all {len(survives)} cells of {where}: the richest "
            f"cell expresses {genes_per_cell.max()} genes, the median cell "
            f"{np.median(genes_per_cell):g}; lower min_genes"
        )
    sizes = cells_per_label(labels.values, survives)
    if not cells.any():
        largest = max(sizes, key=lambda label: sizes[label])
        raise InputError(
            f"min_cells_per_perturbation={limits.min_cells_per_perturbation} drops every "
            f"perturbation in {labels.where}, and no control cell ({labels.control!r}) expresses "
            f"min_genes={limits.min_genes} genes: the largest perturbation, {largest!r}, has "
            f"{sizes[largest]} cells left; lower min_cells_per_perturbation or min_genes"
        )
    if not sizes[labels.control]:
        warnings.warn(
            f"no control cell ({labels.control!r}) expresses min_genes={limits.min_genes} genes; "
            "what is left cannot be compared with the control",
            CrispyxWarning,
            stacklevel=4,
        )
    kept = set(labels.values[cells]) - {labels.control}
    if not kept and len(sizes) > 1:
        largest = max(sizes.keys() - {labels.control}, key=lambda label: sizes[label])
        warnings.warn(
            f"min_cells_per_perturbation={limits.min_cells_per_perturbation} leaves only the "
            f"control {labels.control!r}: the largest perturbation, {largest!r}, has "
            f"{sizes[largest]} cells",
            CrispyxWarning,
            stacklevel=4,
        )


def _require_genes(
    source: MatrixSource,
    cells_per_gene: np.ndarray,
    genes: np.ndarray,
    cells: np.ndarray,
    limits: Thresholds,
) -> None:
    if not genes.any():
        raise InputError(
            f"min_cells_per_gene={limits.min_cells_per_gene} drops all {len(genes)} genes of "
            f"{source.path or source.where}: the most widespread gene is expressed in "
            f"{cells_per_gene.max()} of the {int(cells.sum())} cells left; lower min_cells_per_gene"
        )


def _write(
    cache: ChunkCache,
    masks: _Masks,
    columns: dict[str, np.ndarray],
    output: Path,
    identity: dict[str, Any],
    *,
    resume: bool,
) -> None:
    source = cache.source
    subset = Subset(
        masks.cells,
        masks.genes,
        {name: values[masks.genes] for name, values in columns.items()},
    )
    # No value is negative, so that the cells expressing a gene are its non-zeros.
    n_values = int(masks.cells_per_gene[masks.genes].sum())
    form = MatrixForm(source.layout, subset.shape, n_values, source.dtype)
    write_subset(source, subset, form, cache.blocks, output, identity, resume=resume)
