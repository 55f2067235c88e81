"""Feature-barcode matrices of 10x Genomics: expression and guides, each a data set of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from crispyx._io.compressed import joined
from crispyx._io.copies import fill_copy
from crispyx._io.matrix import READ_VALUES, MatrixSource
from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import open_kinds
from crispyx._io.tenx import GENE_FEATURES, GUIDE_FEATURES
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.rearranged_job import write_rearranged
from crispyx._run.budget import require, working_memory
from crispyx._run.fingerprint import fingerprint
from crispyx.data.arguments import PathLike, output_of
from crispyx.data.ondisk import AnnData
from crispyx.errors import InputError

BYTES_PER_VALUE = 24  # read in blocks and put together: value and index, twice, and the checks


class TenxCounts(NamedTuple):
    """What :func:`read_10x` returns.

    Parameters
    ----------
    expression : anndata.AnnData or AnnData or None
        Counts of genes, in memory or the wrapper of a file; None where the matrix has none.
    guides : anndata.AnnData or AnnData or None
        Counts of guides of the same cells in the same order; None where the matrix has none.
    """

    expression: Any
    guides: Any


def read_10x(
    path: PathLike,
    output_path: PathLike | None = None,
    *,
    guides_path: PathLike | None = None,
    expression_type: str = GENE_FEATURES,
    guide_type: str = GUIDE_FEATURES,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    memory_limit_gb: float | None = None,
    force: bool = False,
) -> TenxCounts:
    """Read a 10x matrix, its genes and its guides apart; given an output, stream it into files.

    Parameters
    ----------
    path : str or pathlib.Path
        Feature-barcode matrix: an ``.h5`` file of Cell Ranger (streamed), or a folder with
        ``matrix.mtx``, ``features.tsv`` (``genes.tsv``) and ``barcodes.tsv``, packed or not (read
        into memory).
    output_path : str or pathlib.Path or None
        File of the expression, ``.h5ad`` or ``.zarr``; None, without ``output_dir``, returns
        everything in memory.
    guides_path : str or pathlib.Path or None
        File of the guides; None takes ``{stem}_guides`` beside ``output_path``.
    expression_type, guide_type : str
        Kinds of features (third column of ``features.tsv``) taken as genes and as guides. A matrix
        without kinds holds genes. Features of other kinds are left out.
    output_dir : str or pathlib.Path or None
        Folder of ``crispyx_expression.h5ad`` and ``crispyx_guides.h5ad``, instead of
        ``output_path``.
    data_name : str or None
        Name of the data set in those names.
    memory_limit_gb : float or None
        Memory of the whole process in GB (1e9 bytes); None takes ``settings.memory_limit_gb``, else
        half of what is free.
    force : bool
        Replace what stands under the outputs' names. Otherwise the same matrix is reloaded and a
        file of another origin is an error.

    Returns
    -------
    TenxCounts
        ``expression, guides = cx.pp.read_10x(...)``: two data sets of the same cells, cells x
        features, X in CSR with the values and the type of the matrix. obs is indexed by barcode,
        var by name (the id, where a name stands more than once), with ``gene_ids``,
        ``gene_symbols``, ``feature_types`` and what else the file says of its features.

    Raises
    ------
    ValueError
        Neither a 10x file nor a 10x folder, or a damaged one; no features of either kind.
    MemoryBudgetError
        In memory: the matrix does not fit.
    FileExistsError
        Another input's result, or a file of another origin, stands under an output's name.
    """
    if output_path is None and guides_path is not None:
        raise InputError("guides_path is given without output_path; give both")
    sources = open_kinds(path)
    wanted = {"expression": expression_type, "guides": guide_type}
    try:
        found = {part: sources.get(kind) for part, kind in wanted.items()}
        if not any(found.values()):
            raise InputError(
                f"{str(path)!r} has no features of the kinds {expression_type!r} and "
                f"{guide_type!r}; it has {', '.join(map(repr, sources))}: give expression_type= "
                "or guide_type="
            )
        if output_path is None and output_dir is None:
            budget = working_memory(memory_limit_gb)
            return TenxCounts(**{part: _load(source, budget) for part, source in found.items()})
        places = {"expression": output_path, "guides": _beside(output_path, guides_path)}
        outputs = {
            part: output_of(source, part, places[part], output_dir, data_name)
            for part, source in found.items()
            if source is not None
        }
        return _write(found, outputs, memory_limit_gb, force)
    finally:
        for source in sources.values():
            source.close()


def _beside(output_path: PathLike | None, guides_path: PathLike | None) -> PathLike | None:
    if output_path is None or guides_path is not None:
        return guides_path
    expression = Path(output_path)
    return expression.with_name(f"{expression.stem}_guides{expression.suffix}")


def _load(source: MatrixSource | None, budget: int) -> Any:
    if source is None:
        return None
    import scipy.sparse as sp

    n_cells, n_features = source.shape
    way_out = f"{source.where}: reading into memory (with output_path= it is streamed into a file)"
    require(BYTES_PER_VALUE * source.storage.n_stored, budget, way_out)
    blocks = source.storage.blocks(
        0, n_cells, max_values=READ_VALUES, max_major=MAX_SEGMENT_MAJOR, as_stored=True
    )
    whole = joined(list(blocks))
    adata = source.as_anndata()
    adata.X = sp.csr_matrix((whole.values, whole.minor, whole.ptr), shape=(n_cells, n_features))
    return adata


def _write(
    found: Mapping[str, MatrixSource | None],
    outputs: Mapping[str, Path],
    memory_limit_gb: float | None,
    force: bool,
) -> TenxCounts:
    if len(set(outputs.values())) < len(outputs):
        raise InputError(f"expression and guides would both be {str(outputs['guides'])!r}")
    parts = {part: source for part, source in found.items() if source is not None}
    identities = {part: fingerprint(part, one.identity(), {}) for part, one in parts.items()}
    missing = [p for p in parts if not can_reuse(outputs[p], identities[p], force=force)]
    for part in missing:
        write_rearranged(
            parts[part],
            outputs[part],
            "csr",
            partial(fill_copy, source=parts[part], uns={}, fingerprint=identities[part]),
            identities[part],
            max_major=MAX_SEGMENT_MAJOR,
            memory_limit_gb=memory_limit_gb,
        )
    written = {part: AnnData(output) for part, output in outputs.items()}
    return TenxCounts(written.get("expression"), written.get("guides"))
