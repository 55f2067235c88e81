"""Guide calls joined to gene expression by barcode, on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crispyx._io.elements import element_names, read_element
from crispyx._io.paths import prepare_output, resolve_data_path, resolve_output_path
from crispyx._jobs.outputs import can_reuse
from crispyx._run.fingerprint import fingerprint
from crispyx._version import __version__
from crispyx.data.ondisk import AnnData
from crispyx.errors import CrispyxWarning, InputError
from crispyx.guides.expression import Expression, open_expression, write_joined
from crispyx.guides.held import Calls, read_calls
from crispyx.guides.matching import (
    CONSTRUCT_COLUMNS,
    carried_constructs,
    carried_perturbations,
    match_cells,
    positions_of,
)
from crispyx.guides.targets import column_targets, resolve_targets

if TYPE_CHECKING:
    import pandas as pd

NAME = "crispyx_guides_join"
SUFFIX = "with_guides"


@dataclass(frozen=True)
class JoinSummary:
    """What became of the cells when calls were joined to expression.

    Attributes
    ----------
    n_cells : int
        Cells of the expression data.
    n_matched : int
        Those among them that the calls have, the sum of the next three.
    n_one_guide, n_several_guides, n_no_guide : int
        Matched cells by the number of their guides; only the first have a perturbation. With
        constructs, the first are those of class ``single`` or ``pair``.
    n_not_in_calls : int
        Cells of the expression data that the calls lack.
    n_only_in_calls : int
        Cells of the calls that the expression data lacks.
    """

    n_cells: int
    n_matched: int
    n_one_guide: int
    n_several_guides: int
    n_no_guide: int
    n_not_in_calls: int
    n_only_in_calls: int


def add_to(
    expression: Any,
    calls: Any,
    *,
    perturbation_column: str = "perturbation",
    guide_column: str = "guide",
    targets: Mapping[str, str] | Callable[[str], str] | str | None = None,
    control_guides: Iterable[str] | Callable[[str], bool] | None = None,
    control_label: str = "non-targeting",
    membership: str | None = None,
    output_path: str | Path | None = None,
    output_dir: str | Path | None = None,
    data_name: str | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> AnnData:
    """Write a copy of an expression file with the guide and the perturbation of every cell in obs.

    Cells are matched by barcode and keep their order; when no barcode agrees, a suffix ``-1`` of
    one side is left out. Only a cell with exactly one guide gets a perturbation: in cells with
    several guides (of one target, too), with none, or unknown to the calls it is missing, so that
    no comparison uses them. The matrix is copied, never loaded.

    Where :func:`crispyx.guides.constructs` has been and ``targets`` is not given, the perturbation
    is the target of the cell's construct, in cells of class ``single`` and ``pair``.

    Parameters
    ----------
    expression : path, crispyx.AnnData, anndata.AnnData or MuData (backed or in memory)
        Cells x genes: ``.h5ad``, ``.h5mu``, a 10x ``.h5`` file or a 10x ``mtx`` folder. Of the last
        three the copy holds gene expression only.
    calls : path, crispyx.AnnData, anndata.AnnData, pyarrow.RecordBatch, pyarrow.Table or DataFrame
        What :func:`crispyx.guides.assign` or :func:`crispyx.guides.decide` returned, or a file of
        it in any format of :func:`crispyx.guides.write_calls`. Tables of one row per call and Cell
        Ranger's table list cells with a call only: other cells count as not in the calls.
    perturbation_column : str
        obs column for the perturbation.
    guide_column : str
        obs column for the guide.
    targets : mapping from guide to target, callable, or str, optional
        Perturbation of a guide, for every guide but the control guides; a str names a var column of
        the calls. None takes the constructs where they are known, else the var column ``target`` or
        ``target_gene_name`` (of Cell Ranger's feature reference) where it is complete, else the
        guide's own name. A control label in such a column may differ in case and in ``_`` for
        ``-``.
    control_guides : list of str, or callable from guide to bool, optional
        Guides whose perturbation is ``control_label``, whatever ``targets`` says. With constructs
        the table of constructs names the control.
    control_label : str
        Label of the control.
    membership : str, optional
        Also write ``obsm[membership]`` (cells x perturbations, 1 where the cell has a guide of the
        perturbation) and the names of its columns, ``uns["{membership}_names"]``: for screens whose
        cells carry several guides on purpose. ``perturbation_column="obsm/{membership}"`` of the
        tests reads it.
    output_path : path, optional
        File to write; excludes ``output_dir`` and ``data_name``.
    output_dir : path, optional
        Folder of the output; None takes the folder of the input. The name is
        ``crispyx_with_guides.h5ad``.
    data_name : str, optional
        Makes the name ``crispyx_{data_name}_with_guides.h5ad``.
    overwrite : bool
        Replace obs columns that exist in the input (in the copy; the input stays as it is).
    force : bool
        Replace an output file, whatever it is. Without it the same join of the same file is
        reloaded, and another one of the same file replaces it with a warning.

    Returns
    -------
    crispyx.AnnData
        The copy. Its obs has five more columns: the guide and the perturbation (categorical), both
        missing without exactly one guide; ``guide_umi`` (nullable uint32 or uint64), its UMIs,
        idem; ``n_guides_detected`` (nullable uint8 or wider), missing for a cell the calls do not
        have; ``is_multi_infected`` (bool). With constructs also ``construct`` and ``guide_class``,
        and in a pair the guide is that with the most UMIs. ``uns["crispyx_guides_join"]`` holds the
        numbers that :func:`join_summary` returns, with the names of the columns and of the model,
        and the suffix that was left out of barcodes.

    Raises
    ------
    InputError
        No barcode in common, or one that stands twice; obs columns that exist already; a guide
        without target; an unknown control guide; ``membership`` of a table that names one guide of
        a cell with several.
    MissingColumnError
        ``calls`` are no calls.
    OutputExistsError
        The output is another file's result, or none of crispyx.

    Warns
    -----
    CrispyxWarning
        No cell has the control label; fewer than half of the cells are in the calls.
    """
    cells = open_expression(expression)
    called = read_calls(calls)
    by_construct = targets is None and called.has_constructs
    label_columns = (perturbation_column, guide_column)
    _check_columns(
        cells, label_columns, CONSTRUCT_COLUMNS if by_construct else (), overwrite=overwrite
    )
    target_of = None
    if not by_construct:
        controls = _controls_among(called, control_guides)
        if targets is None or isinstance(targets, str):
            targets = column_targets(
                called.guides, called.var, targets, control_label, called.where
            )
        target_of = resolve_targets(called.guides, targets, controls, control_label)
    elif control_guides is not None:
        raise InputError(
            f"{called.where}: the perturbation comes from column 'target' of the constructs, which "
            f"control_guides= does not change; give their constructs the target {control_label!r}, "
            "or give targets= to join by guide"
        )
    position, suffix = positions_of(cells.barcodes, called, cells.where)
    added, counts = match_cells(cells.barcodes, called, target_of, label_columns, position)
    summary = JoinSummary(**counts)
    _warn(summary, added[perturbation_column], control_label)
    output = _output(cells, output_path, output_dir, data_name)
    inputs = tuple(path for path in (cells.path, called.path) if path is not None)
    prepare_output(output, inputs, cells.path.stat().st_size if cells.path else 0)
    names = {
        "perturbation_column": perturbation_column,
        "guide_column": guide_column,
        "control_label": control_label,
        "model": called.model,
        "suffix_left_out": suffix,
    }
    uns: dict[str, Any] = {NAME: {**asdict(summary), **names, "version": __version__}}
    obsm = {}
    if membership is not None:
        obsm[membership], uns[f"{membership}_names"] = (
            carried_constructs(called, position)
            if target_of is None
            else carried_perturbations(called, target_of, position)
        )
    content = {"membership": membership, "calls": _digest(added, *obsm.values())}
    identity = fingerprint(SUFFIX, cells.identity(), {**names, **content})
    if not can_reuse(output, identity, force=force):
        write_joined(cells, added, output, uns, obsm, identity)
    return AnnData(output)


def join_summary(data: Any) -> JoinSummary:
    """Return what became of the cells in a file that :func:`add_to` wrote.

    Parameters
    ----------
    data : path, crispyx.AnnData or backed anndata.AnnData
        The file.

    Returns
    -------
    JoinSummary
        Numbers of cells.

    Raises
    ------
    InputError
        ``add_to`` did not write it.
    """
    path = resolve_data_path(data)
    if NAME not in element_names(path, "uns"):
        raise InputError(f"{str(path)!r} has no uns[{NAME!r}]; crispyx.guides.add_to writes it")
    found = read_element(path, f"uns/{NAME}")
    return JoinSummary(**{field.name: int(found[field.name]) for field in fields(JoinSummary)})


def _controls_among(called: Calls, control_guides: Any) -> Any:
    """Leave out control guides that a table of calls does not list because no cell has them."""
    listed = isinstance(control_guides, Iterable) and not isinstance(control_guides, str | bytes)
    if not called.is_table or not listed:
        return control_guides
    return [guide for guide in map(str, control_guides) if guide in set(called.guides)]


def _check_columns(
    cells: Expression, label_columns: tuple[str, str], others: tuple[str, ...], *, overwrite: bool
) -> None:
    names = [*label_columns, *Calls.COLUMNS, *others]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            f"the obs column {repeated[0]!r} would be written twice; give other names with "
            f"perturbation_column= and guide_column= (taken: {', '.join(map(repr, names[2:]))})"
        )
    if cells.index_name in names:
        raise InputError(
            f"the index of obs of {cells.where} is named {cells.index_name!r}; rename it, or give "
            "other names with perturbation_column= and guide_column="
        )
    there = [name for name in names if name in cells.columns]
    if there and not overwrite:
        raise InputError(
            f"obs of {cells.where} has {', '.join(map(repr, there))} already; give other names "
            "with perturbation_column= and guide_column=, or overwrite=True to replace them in the "
            "copy"
        )


def _output(
    cells: Expression,
    output_path: str | Path | None,
    output_dir: str | Path | None,
    data_name: str | None,
) -> Path:
    if output_path is not None:
        if output_dir is not None or data_name is not None:
            raise InputError(
                "output_path= names the whole file; leave out output_dir= and data_name="
            )
        return Path(output_path)
    if cells.path is None and output_dir is None:
        raise InputError(
            "an AnnData in memory has no folder for the result; give output_path= or output_dir="
        )
    return resolve_output_path(
        cells.path or "", suffix=SUFFIX, output_dir=output_dir, data_name=data_name
    )


def _digest(added: pd.DataFrame, *carried: Any) -> str:
    import hashlib

    import pandas as pd

    digest = hashlib.sha256(pd.util.hash_pandas_object(added, index=False).to_numpy().tobytes())
    for matrix in carried:
        digest.update(matrix.indptr.tobytes() + matrix.indices.tobytes())
    return digest.hexdigest()[:16]


def _warn(summary: JoinSummary, perturbation: pd.Series, control_label: str) -> None:
    if 2 * summary.n_matched < summary.n_cells:
        warnings.warn(
            f"only {summary.n_matched} of {summary.n_cells} cells are in the calls; are both of "
            "the same lanes, and barcodes written alike?",
            CrispyxWarning,
            stacklevel=3,
        )
    if control_label not in perturbation.cat.categories:
        warnings.warn(
            f"no cell has the control label {control_label!r}: say which guides are controls with "
            "control_guides=, or what targets= calls them with control_label=",
            CrispyxWarning,
            stacklevel=3,
        )
