"""The screen: which cells carry which perturbation, and what the genes are called."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crispyx._io.annotations import as_labels, as_text
from crispyx._io.source import MatrixSource
from crispyx._jobs.labels import _shown, resolve_control_label
from crispyx._kernels.layout import Membership
from crispyx.errors import CrispyxWarning, InputError


@dataclass(frozen=True)
class Screen:
    """Cells x groups membership with the names of groups and genes, checked.

    Attributes
    ----------
    perturbation_column : str
        obs column the labels come from.
    control_label : str
        Label of group 0.
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
    def group_sizes(self) -> np.ndarray:
        """Cells of each perturbation (n_groups,) int64, the control left out."""
        return self.membership.sizes[1:]

    @property
    def n_control(self) -> int:
        """Number of control cells."""
        return int(self.membership.sizes[0])


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
        obs column of labels.
    control_label : str or None
        Control; None infers it, see :func:`crispyx.data.resolve_control_label`.
    gene_name_column : str or None
        var column of gene names; None takes the index.
    perturbations : iterable of str or None
        Perturbations to compare, in this order; None takes all.

    Raises
    ------
    MissingColumnError, InputError
        No such column; control or perturbation absent; genes not unique.
    """
    labels = as_labels(source.obs.column(perturbation_column))
    where = f"obs column {perturbation_column!r} of {source.path or source.where}"
    present = list(dict.fromkeys(label for label in labels if label is not None))
    control = resolve_control_label(labels, control_label, verbose=False)
    if control not in present:
        raise InputError(
            f"control label {control!r} is not in {where}, which holds {_shown(present)}; "
            "give control_label="
        )
    groups = tuple(_asked(perturbations, present, control, where))
    number = {control: 0} | {label: k + 1 for k, label in enumerate(groups)}
    group_of_cell = np.array([number.get(label, -1) for label in labels], dtype=np.int32)
    n_missing = int(sum(label is None for label in labels))
    if n_missing:
        warnings.warn(
            f"{n_missing} of {len(labels)} cells have no label in {where}; they are left out",
            CrispyxWarning,
            stacklevel=3,
        )
    return Screen(
        perturbation_column=perturbation_column,
        control_label=control,
        groups=groups,
        membership=Membership.from_labels(group_of_cell, len(groups) + 1),
        genes=gene_names(source, gene_name_column),
        gene_name_column=gene_name_column,
    )


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
            raise InputError(f"{where} holds only the control {control!r}; there is nothing to compare")
        return groups
    if isinstance(perturbations, str):
        raise InputError(f"perturbations is the text {perturbations!r}; give a list of labels")
    groups = [label for label in dict.fromkeys(map(str, perturbations)) if label != control]
    if not groups:
        raise InputError("perturbations names no group beside the control; give at least one label")
    absent = [label for label in groups if label not in set(present)]
    if absent:
        raise InputError(f"perturbations asks for {_shown(absent)}, which {where} does not hold")
    return groups
