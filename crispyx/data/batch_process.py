"""A function of one's own over the blocks of a matrix, its answers merged in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.compressed import joined
from crispyx._io.segments import MAX_SEGMENT_MAJOR, scratch_folder
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.labels import resolve_control_label
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import working_memory
from crispyx._run.prefetch import prefetch
from crispyx._run.progress import track
from crispyx._run.threads import resolve_threads
from crispyx._run.workers import in_parallel
from crispyx.data.arguments import whole
from crispyx.data.reducer import CellBlock, Reducer, as_reducer
from crispyx.errors import InputError, InputTypeError

if TYPE_CHECKING:
    import anndata
    import pandas as pd

BYTES_PER_VALUE = 12  # the value, up to 8 bytes, and its column
COPIES = 4  # of the blocks worked on: those, the next ones, and what is made of them
State = dict[Any, Any]  # of every group; its only key is None without groups


def batch_process(
    data: Any,
    reducer: Callable[[CellBlock], Any] | Reducer,
    merge: Callable[[Any, Any], Any] | None = None,
    *,
    finish: Callable[[Any], Any] | None = None,
    groupby: str | None = None,
    control_label: str | None = None,
    layer: str | None = None,
    chunk_size: int = 4096,
    n_jobs: int | None = None,
    show_progress: bool = True,
) -> Any:
    """Compute something over blocks of cells, merged in the order of the blocks.

    What is computed is a function of a block and one that merges two of its answers, or an object
    with a state (:class:`Reducer`). Blocks are cut at multiples of ``chunk_size``, whatever the
    layout, the files, the threads or the memory, and merged from the first to the last: what always
    gives the same answer for the same blocks gives the same answer, bit for bit, for the data set.
    Sums of counts in float64 are the same for every ``chunk_size`` too.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData, list of paths
        Cells x genes.
    reducer : callable (CellBlock) -> partial answer, or Reducer
        Called once for each block, from several threads at a time where answers can be merged; must
        not change anything shared.
    merge : callable (earlier, later) -> partial answer, or None
        Joins the answer of all blocks so far with that of the next one; needed with a function.
    finish : callable or None
        Makes the result of the merged answer of a function.
    groupby : str or None
        obs column, such as that of perturbations: every label has a state of its own, of its cells
        alone; cells without a label are left out. A state per label is in memory, and one for
        each label of a block that is worked on.
    control_label : str or None
        Label that ``reducer.compare`` compares the others with; None infers it as the tests do.
    layer : str or None
        Layer to use instead of X.
    chunk_size : int
        Cells of every block but the last, at most 65,536. It decides which sums are made first, and
        so the last bits of sums of fractions.
    n_jobs : int or None
        Blocks worked on at a time; None takes ``crispyx.settings.n_threads``, else all cores. Fewer
        are where memory does not hold that many.
    show_progress : bool
        Progress on standard error, where that is a terminal.

    Returns
    -------
    any
        What ``finalize`` (``finish``) makes of the state of all cells. With ``groupby`` a dict of
        such, by label in order of first appearance; where the reducer has ``compare``, of what that
        returns, the control left out. Where it has ``channels``, an ``anndata.AnnData`` of labels x
        genes instead (one row, ``"all"``, without ``groupby``), a layer for each channel and the
        first as X.

    Raises
    ------
    InputError, MissingColumnError
        NaN, infinity or a damaged structure; the message names the place. No such column, no
        control; channels of another number or length.
    InputTypeError
        Neither a reducer nor functions.

    Examples
    --------
    Means of the genes: sums can be merged, means cannot.

    >>> import anndata, numpy as np, crispyx as cx
    >>> counts = np.random.default_rng(0).poisson(2.0, (500, 4)).astype(np.float32)
    >>> adata = anndata.AnnData(counts)
    >>> def sums(block):
    ...     return block.stop - block.start, np.asarray(block.X.sum(axis=0, dtype=float)).ravel()
    >>> def add(a, b):
    ...     return a[0] + b[0], a[1] + b[1]
    >>> means = cx.tl.batch_process(
    ...     adata, sums, add, finish=lambda total: total[1] / total[0], chunk_size=100
    ... )
    >>> bool(np.allclose(means, counts.mean(axis=0)))
    True

    The two genes with the largest sums.

    >>> top = cx.tl.batch_process(
    ...     adata, sums, add, finish=lambda total: np.argsort(-total[1], kind="stable")[:2]
    ... )
    >>> top.tolist() == np.argsort(-counts.sum(axis=0), kind="stable")[:2].tolist()
    True

    Correlations of the genes: of sums, and sums of products.

    >>> def products(block):
    ...     return *sums(block), (block.X.T @ block.X).toarray()
    >>> def add_all(a, b):
    ...     return tuple(x + y for x, y in zip(a, b))
    >>> def correlation(total):
    ...     n, x, xx = total
    ...     covariance = xx / n - np.outer(x, x) / n**2
    ...     sd = np.sqrt(np.diag(covariance))
    ...     return covariance / np.outer(sd, sd)
    >>> found = cx.tl.batch_process(adata, products, add_all, finish=correlation)
    >>> bool(np.allclose(found, np.corrcoef(counts.T), atol=1e-5))
    True
    """
    work = as_reducer(reducer, merge, finish)
    compare = None if groupby is None else getattr(work, "compare", None)
    if control_label is not None and compare is None:
        raise InputTypeError("control_label is for a reducer that compares, with groupby=")
    step = min(whole("chunk_size", chunk_size, 1), MAX_SEGMENT_MAJOR)
    n_threads = resolve_threads(n_jobs) if hasattr(work, "merge") else 1
    with open_source(data, layer) as source:
        obs, genes = source.table("obs"), source.var.index
        labels = None if groupby is None else as_labels(source.obs.column(groupby))
        control = None
        if labels is not None and compare is not None:
            control = _control_among(labels, control_label, f"column {groupby!r} of {source.where}")
        n_blocks = -(-source.shape[0] // step)
        per_block = BYTES_PER_VALUE * source.storage.n_stored * step / source.shape[0]
        n_fitting = int(working_memory() / (COPIES * max(per_block, 1)))
        show = None if show_progress else False
        with closing(prefetch(_cut(source, step))) as blocks:
            cells = (_as_cells(block, obs, genes) for block in blocks)
            shown = track(cells, total=n_blocks, label="blocks", unit="block", show=show)
            states = _reduced(work, shown, labels, max(1, min(n_threads, n_fitting)))
    results = {
        label: work.finalize(state) if compare is None else compare(state, states[control])
        for label, state in states.items()
        if compare is None or label != control
    }
    if hasattr(work, "channels"):
        return _as_channels(tuple(work.channels), results, genes)
    return results[None] if groupby is None else results


def _control_among(labels: np.ndarray, control_label: str | None, where: str) -> str:
    control = resolve_control_label(labels, control_label, verbose=False)
    if control not in labels:
        raise InputError(f"control label {control!r} is not in obs {where}; give control_label=")
    return control


def _reduced(
    work: Reducer, cells: Iterator[CellBlock], labels: np.ndarray | None, n_at_a_time: int
) -> State:
    """Return the states of all groups, in order of first appearance."""
    states: State = {}
    if not hasattr(work, "merge"):
        for block in cells:
            states |= _moved_on(work, labels, states, block)
        return states
    while batch := list(itertools.islice(cells, n_at_a_time)):
        answers = in_parallel(partial(_moved_on, work, labels, {}), batch, n_at_a_time)
        batch.clear()  # before the next are read
        for found in answers:
            for label, state in found.items():
                states[label] = work.merge(states[label], state) if label in states else state
    return states


def _moved_on(work: Reducer, labels: np.ndarray | None, states: State, block: CellBlock) -> State:
    """Return the states of the groups of a block, each moved on from its state or from none."""
    groups = {None: block}
    if labels is not None:
        rows: dict[Any, list[int]] = {}
        for row, label in enumerate(labels[block.start : block.stop]):
            if label is not None:
                rows.setdefault(label, []).append(row)
        groups = {label: block.of(np.array(found)) for label, found in rows.items()}
    return {
        label: work.update(
            states[label] if label in states else work.initialize(len(block.genes)), cells
        )
        for label, cells in groups.items()
    }


def _as_channels(channels: tuple[str, ...], results: State, genes: np.ndarray) -> anndata.AnnData:
    """Return vectors of genes as layers, a row for each group."""
    import anndata
    import pandas as pd

    tables = np.empty((len(channels), len(results), len(genes)))
    for row, (label, found) in enumerate(results.items()):
        vectors = [np.asarray(vector) for vector in found]
        shapes = [vector.shape for vector in vectors]
        if shapes != [(len(genes),)] * len(channels):
            raise InputError(
                f"channels are {channels} but {label or 'the reducer'} gave shapes {shapes}; give "
                f"one vector of {len(genes)} genes for each channel"
            )
        tables[:, row] = vectors
    names = pd.Index(["all" if label is None else label for label in results], dtype=object)
    return anndata.AnnData(
        tables[0],
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame(index=pd.Index(genes, dtype=object)),
        layers=dict(zip(channels, tables, strict=True)),
    )


def _cut(source: MatrixSource, step: int) -> Iterator[CompressedBlock]:
    """Yield blocks of ``step`` cells each, but for the last."""
    scratch = scratch_folder(source.n_turned, source.path.parent if source.path else None)
    held: list[CompressedBlock] = []
    for block in source.row_blocks(max_rows=step, scratch_dir=scratch):
        held.append(block)
        while held and held[-1].stop - held[0].start >= step:
            whole_block = joined(held)
            yield _rows(whole_block, whole_block.start, whole_block.start + step)
            rest = _rows(whole_block, whole_block.start + step, whole_block.stop)
            held = [rest] if rest.n_major else []
    if held:
        yield joined(held)


def _rows(block: CompressedBlock, start: int, stop: int) -> CompressedBlock:
    ptr = block.ptr[start - block.start : stop - block.start + 1]
    span = slice(int(ptr[0]), int(ptr[-1]))
    return CompressedBlock(start, stop, block.values[span], block.minor[span], ptr - ptr[0])


def _as_cells(block: CompressedBlock, obs: pd.DataFrame, genes: np.ndarray) -> CellBlock:
    import scipy.sparse as sp

    matrix = sp.csr_matrix(
        (block.values, block.minor, block.ptr), shape=(block.n_major, len(genes))
    )
    return CellBlock(block.start, block.stop, matrix, obs.iloc[block.start : block.stop], genes)
