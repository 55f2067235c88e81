"""Cells x perturbations tables in obsm, for screens whose cells carry several guides."""

from __future__ import annotations

from typing import Any

import numpy as np

from crispyx._io.source import MatrixSource
from crispyx.errors import InputError, MissingColumnError

PREFIX = "obsm/"


def read_memberships(source: MatrixSource, element: str) -> tuple[Any, list[str]]:
    """Read which perturbations each cell carries.

    Parameters
    ----------
    source : MatrixSource
        The screen.
    element : str
        ``"obsm/NAME"``: a table (names are its columns), or a sparse or dense matrix whose column
        names stand in ``uns["NAME_names"]``. A value that is not zero means that the cell carries
        the perturbation.

    Returns
    -------
    carried : scipy.sparse.csr_array (n_cells, n_perturbations) bool
    names : list of str

    Raises
    ------
    MissingColumnError, InputError
        No such element; names missing, of another number or repeated.
    """
    from scipy import sparse

    key = element.removeprefix(PREFIX)
    table = source.slot("obsm", key)
    where = f"{element} of {source.path or source.where}"
    if table is None:
        raise MissingColumnError(
            f"there is no {where}; cx.gd.add_to(..., membership={key!r}) writes one"
        )
    if hasattr(table, "columns"):
        names = [str(name) for name in table.columns]
        table = table.to_numpy()
    else:
        stored = source.slot("uns", f"{key}_names")
        if stored is None:
            raise InputError(f"{where} has no column names: put them into uns[{key + '_names'!r}]")
        names = [str(name) for name in np.asarray(stored)]
    carried = sparse.csr_array(table) != 0
    if carried.shape != (source.shape[0], len(names)):
        raise InputError(
            f"{where} is {carried.shape[0]} x {carried.shape[1]}, but there are {source.shape[0]} "
            f"cells and {len(names)} names"
        )
    if len(set(names)) < len(names):
        raise InputError(f"{where} names a perturbation twice; make the names unique")
    carried = sparse.csr_array(carried)
    carried.eliminate_zeros()
    carried.sort_indices()
    return carried, names
