"""The screen: which cells carry which perturbation, and what the genes are called."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crispyx._io.annotations import as_labels, as_text
from crispyx._io.memberships import PREFIX, read_memberships
from crispyx._io.source import MatrixSource
from crispyx._jobs.labels import _shown, resolve_control_label
from crispyx._kernels.layout import Membership
from crispyx.errors import CrispyxWarning, InputError

REST = "rest"


@dataclass(frozen=True)
class Screen:
    """Cells x groups membership with the names of groups and genes, checked.

    Attributes
    ----------
    perturbation_column : str
        obs column the labels come from, or ``"obsm/NAME"``.
    control_label : str
        Label of group 0, or ``"rest"``: each perturbation is compared with all other cells.
    groups : tuple of str
        Perturbations, groups 1 to n: in order of first appearance, or as the caller asked.
    membership : Membership
        Groups of every cell.
    genes : numpy.ndarray (n_genes,) str
        Gene names.
    gene_name_column : str or None
        var column they come from; None for the index.
    """

    perturbation_column: str
    control_label: str
    groups: tuple[str, ...]
    membership: Membership
    genes: np.ndarray
    gene_name_column: str | None

    @property
    def checksum(self) -> int:
        """Checksum of who is in which group and of all names, for fingerprints."""
        names = "\0".join([self.control_label, *self.groups, *map(str, self.genes)])
        members = zlib.crc32(self.membership.groups.data, zlib.crc32(self.membership.ptr.data))
        return zlib.crc32(names.encode(), members)

    @property
    def group_sizes(self) -> np.ndarray:
        """Cells of each perturbation (n_groups,) int64, the control left out."""
        return self.membership.sizes[1:]


def resolve_screen(
    source: MatrixSource,
    *,
    perturbation_column: str,
    control_label: str | None = None,
    gene_name_column: str | None = None,
    perturbations: Iterable[str] | None = None,
) -> Screen:
    """Read labels and gene names, find the control, and check everything before work starts.

    Parameters
    ----------
    source : MatrixSource
        The opened input.
    perturbation_column : str
        obs column of labels, or ``"obsm/NAME"``, see ``crispyx._io.memberships``.
    control_label : str or None
        Control; None infers it, see :func:`crispyx.data.resolve_control_label`. ``"rest"``, where
        no label is called so, compares each perturbation with all cells that do not carry it.
    gene_name_column : str or None
        var column of gene names; None takes the index.
    perturbations : iterable of str or None
        Perturbations to compare, in this order; None takes all.

    Raises
    ------
    MissingColumnError, InputError
        No such column; control or perturbation absent; genes not unique.
    """
    if perturbation_column.startswith(PREFIX):
        cells = _carried_perturbations(source, perturbation_column)
    else:
        cells = _labelled_cells(source, perturbation_column)
    where = f"{perturbation_column!r} of {source.path or source.where}"
    rest = isinstance(control_label, str) and control_label == REST and REST not in cells.names
    control = REST if rest else _control_label(cells.names, control_label, where)
    if not rest and control not in cells.names:
        raise InputError(
            f"control label {control!r} is not in {where}, which holds {_shown(cells.names)}; "
            "give control_label="
        )
    groups = tuple(_asked(perturbations, cells.names, control, where))
    _warn_about_repeated_cells(source)
    return Screen(
        perturbation_column=perturbation_column,
        control_label=control,
        groups=groups,
        membership=_membership(cells, None if rest else control, groups),
        genes=gene_names(source, gene_name_column),
        gene_name_column=gene_name_column,
    )


def _warn_about_repeated_cells(source: MatrixSource) -> None:
    names = source.obs.index
    n_repeated = len(names) - len(set(names.tolist()))
    if n_repeated:
        unique, counts = np.unique(names.astype(str), return_counts=True)
        first = str(unique[counts > 1][0])
        warnings.warn(
            f"{n_repeated} cell names of {source.path or source.where} stand more than once "
            f"(first: {first!r}); each row counts as a cell of its own",
            CrispyxWarning,
            stacklevel=5,
        )


def _control_label(names: list[str], control_label: str | None, where: str) -> str:
    try:
        return resolve_control_label(names, control_label, verbose=False)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


@dataclass(frozen=True)
class _Cells:
    """Labels of the cells: those of cell i are ``names[codes[ptr[i]:ptr[i + 1]]]``.

    ``known`` (n_cells,) marks the cells that count as rest where they do not carry a perturbation.
    """

    names: list[str]
    ptr: np.ndarray
    codes: np.ndarray
    known: np.ndarray


def _labelled_cells(source: MatrixSource, column: str) -> _Cells:
    labels = as_labels(source.obs.column(column))
    names = [label for label in dict.fromkeys(labels.tolist()) if label is not None]
    code_of = {name: code for code, name in enumerate(names)}
    known = np.array([label is not None for label in labels.tolist()], dtype=bool)
    n_missing = int(np.count_nonzero(~known))
    if n_missing:
        warnings.warn(
            f"{n_missing} of {len(labels)} cells have no label in obs column {column!r} of "
            f"{source.path or source.where}; they are left out",
            CrispyxWarning,
            stacklevel=5,
        )
    n_known = int(np.count_nonzero(known))
    codes = np.fromiter(map(code_of.__getitem__, labels[known].tolist()), np.int64, n_known)
    return _Cells(names, np.concatenate([[0], np.cumsum(known)]), codes, known)


def _carried_perturbations(source: MatrixSource, element: str) -> _Cells:
    carried, names = read_memberships(source, element)
    known = np.ones(source.shape[0], dtype=bool)  # no guide is an answer too
    return _Cells(names, carried.indptr.astype(np.int64), carried.indices.astype(np.int64), known)


def _membership(cells: _Cells, control: str | None, groups: tuple[str, ...]) -> Membership:
    """Return the membership; a cell with the control and another label belongs to the other."""
    number_of = {label: k + 1 for k, label in enumerate(groups)}
    if control is not None:
        number_of[control] = 0
    number = np.array([number_of.get(name, -1) for name in cells.names], dtype=np.int64)
    cell = np.repeat(np.arange(len(cells.ptr) - 1), np.diff(cells.ptr))
    groups_of_cells = number[cells.codes]
    n_labels = np.diff(cells.ptr)
    keep = (groups_of_cells > 0) | ((groups_of_cells == 0) & (n_labels[cell] == 1))
    ptr = np.concatenate([[0], np.cumsum(np.bincount(cell[keep], minlength=len(n_labels)))])
    pool = cells.known if control is None else None
    return Membership.from_lists(ptr, groups_of_cells[keep], len(groups) + 1, pool)


def gene_names(source: MatrixSource, gene_name_column: str | None) -> np.ndarray:
    """Return unique gene names (n_genes,) str.

    Raises
    ------
    InputError
        A name stands twice; the message names it and the way out.
    """
    if gene_name_column is None:
        names = source.var.index
    else:
        names = as_text(source.var.column(gene_name_column))
    unique, counts = np.unique(names.astype(str), return_counts=True)
    if len(unique) < len(names):
        column = "the var index" if gene_name_column is None else f"var column {gene_name_column!r}"
        repeated = [str(name) for name in unique[counts > 1]]
        raise InputError(
            f"{len(repeated)} gene names stand more than once in {column} of "
            f"{source.path or source.where}: {_shown(repeated)}; make them unique "
            "(adata.var_names_make_unique()) or choose another gene_name_column="
        )
    return names


def _asked(
    perturbations: Iterable[str] | None, present: list[str], control: str, where: str
) -> list[str]:
    if perturbations is None:
        groups = [label for label in present if label != control]
        if not groups:
            raise InputError(
                f"{where} holds only the control {control!r}; there is nothing to compare"
            )
        return groups
    if isinstance(perturbations, str):
        raise InputError(f"perturbations is the text {perturbations!r}; give a list of labels")
    groups = [label for label in dict.fromkeys(map(str, perturbations)) if label != control]
    if not groups:
        raise InputError("perturbations names no group beside the control; give at least one label")
    known = set(present)
    absent = [label for label in groups if label not in known]
    if absent:
        raise InputError(
            f"perturbations asks for {_shown(absent)}, which {where} does not hold; it holds "
            f"{_shown(present)}"
        )
    return groups
