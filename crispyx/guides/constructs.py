"""From guides to the constructs that carry them: dual-guide vectors, pairs and multiplets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.csv_text import read_csv_text
from crispyx.errors import InputError, InputTypeError, MissingColumnError, MissingFileError
from crispyx.guides.call_tables import separator_of
from crispyx.guides.held import CONSTRUCTS, read_calls
from crispyx.guides.moi import CLASSES

if TYPE_CHECKING:
    import anndata
    import pandas as pd

COLUMNS = ("guide", "construct", "target")
SHOWN = 3


def constructs(calls: Any, table: Any, *, control_target: str | None = None) -> anndata.AnnData:
    """Say which construct every cell carries, from its guides.

    A construct is what one vector carries into a cell. A cell whose guides are all of one construct
    carries that construct, be it one guide or both of a dual-guide vector. Guides of several
    constructs are a multiplet.

    Parameters
    ----------
    calls : anndata.AnnData or path
        What :func:`crispyx.guides.assign` returned, or its ``.h5ad``.
    table : pandas.DataFrame, mapping or path
        One row for every guide of every construct: columns ``guide``, ``construct``, ``target``; a
        mapping from guide to (construct, target); or a ``.csv`` or ``.tsv`` file. A guide may
        belong to several constructs. The order of a construct's rows is that of the positions in
        the vector.
    control_target : str, optional
        Target of non-targeting constructs. Given, a cell with one targeting and one non-targeting
        construct is a ``pair`` and counts for the targeting one; a cell with two non-targeting ones
        is a ``pair`` of the control, without a construct. Not given, such cells are multiplets.

    Returns
    -------
    anndata.AnnData (n_cells, n_guides)
        A copy of the calls. obs has further columns: ``guide_class`` (categorical): ``none``;
        ``single``, one guide; ``pair``, several guides of one construct (and what
        ``control_target`` adds); ``multiplet``. ``construct`` and ``target`` (categorical), missing
        in classes ``none`` and ``multiplet``, and the construct also where the guide belongs to
        several. ``is_recombined`` (bool): a multiplet of two guides that two dual-guide vectors
        hold at different positions, each without its partner, as recombination between vectors
        leaves them. ``obsm["constructs"]`` (CSR uint8, cells x constructs): every construct that a
        cell carries, whose columns ``uns["constructs"]`` names (``construct``, ``target``).

    Raises
    ------
    InputError
        A guide that the table lacks, or that stands twice in a construct; a construct with several
        targets; an unknown ``control_target``; calls held by a table.
    MissingColumnError
        The table lacks one of its columns.
    """
    adata = read_calls(calls).whole()
    where = "the table of constructs"
    if isinstance(table, str | os.PathLike):
        where = f"the table of constructs {str(table)!r}"
    library = _library(_rows(table, where), adata.var_names.to_numpy(), control_target, where)
    cells = _cells(adata.layers["assigned"], library)
    result = adata.copy()
    _add_columns(result.obs, cells, library)
    result.obsm[CONSTRUCTS] = _carried(cells, len(library.names))
    result.uns[CONSTRUCTS] = {
        "construct": np.array(library.names, dtype=object),
        "target": np.array(library.targets, dtype=object),
    }
    return result


def _cells(assigned: Any, library: _Library) -> list[_Cell]:
    """Return what every cell carries; cells with the same guides share the answer."""
    import scipy.sparse as sp

    called = sp.csr_matrix(assigned, copy=True)
    called.eliminate_zeros()
    called.sort_indices()
    known: dict[tuple[int, ...], _Cell] = {}
    cells = []
    for start, stop in zip(called.indptr[:-1], called.indptr[1:], strict=True):
        guides = tuple(called.indices[start:stop].tolist())
        if guides not in known:
            known[guides] = library.cell(guides)
        cells.append(known[guides])
    return cells


def _add_columns(obs: pd.DataFrame, cells: list[_Cell], library: _Library) -> None:
    import pandas as pd

    names = [None if cell.construct is None else library.names[cell.construct] for cell in cells]
    obs["construct"] = pd.Categorical(names)
    obs["target"] = pd.Categorical([cell.target for cell in cells])
    obs["guide_class"] = pd.Categorical([cell.kind for cell in cells], categories=CLASSES)
    obs["is_recombined"] = np.array([cell.recombined for cell in cells], dtype=bool)


def _carried(cells: list[_Cell], n_constructs: int) -> Any:
    import scipy.sparse as sp

    ptr = np.concatenate([[0], np.cumsum([len(cell.carried) for cell in cells])])
    positions = np.array([at for cell in cells for at in cell.carried], dtype=np.int64)
    ones = np.ones(len(positions), dtype=np.uint8)
    return sp.csr_matrix((ones, positions, ptr), shape=(len(cells), n_constructs))


@dataclass(frozen=True)
class _Cell:
    """What the guides of a cell stand for; constructs as positions in the library."""

    kind: str
    construct: int | None
    target: str | None
    carried: tuple[int, ...]
    recombined: bool = False


@dataclass(frozen=True)
class _Library:
    """Constructs by position, with their guides in the order of the vector."""

    names: list[str]
    targets: list[str]
    guides: list[tuple[int, ...]]
    of_guide: dict[int, list[int]]
    control_target: str | None

    def cell(self, guides: tuple[int, ...]) -> _Cell:
        """Return what a cell with these guides (increasing positions) carries."""
        if not guides:
            return _Cell("none", None, None, ())
        holding = [at for at in self.of_guide[guides[0]] if set(guides) <= set(self.guides[at])]
        if holding:
            kind = "single" if len(guides) == 1 else "pair"
            return self._one_of(kind, holding)
        carried = self._carried(guides)
        if len(guides) == 2 and self.control_target is not None:
            pair = self._with_control(guides, carried)
            if pair is not None:
                return pair
        return _Cell("multiplet", None, None, carried, self._recombined(guides))

    def _one_of(self, kind: str, holding: list[int]) -> _Cell:
        """Return a cell that carries one construct, which may be one of several."""
        targets = {self.targets[at] for at in holding}
        target = targets.pop() if len(targets) == 1 else None
        construct = holding[0] if len(holding) == 1 else None
        return _Cell(kind, construct, target, tuple(holding[:1]))

    def _carried(self, guides: tuple[int, ...]) -> tuple[int, ...]:
        """Return the constructs that are there whole, and one for each guide left over."""
        present = set(guides)
        candidates = sorted({at for guide in guides for at in self.of_guide[guide]})
        whole = [at for at in candidates if set(self.guides[at]) <= present]
        covered = {guide for at in whole for guide in self.guides[at]}
        rest = [self.of_guide[guide][0] for guide in guides if guide not in covered]
        return tuple(sorted({*whole, *rest}))

    def _with_control(self, guides: tuple[int, ...], carried: tuple[int, ...]) -> _Cell | None:
        targeting = [
            guide
            for guide in guides
            if any(self.targets[at] != self.control_target for at in self.of_guide[guide])
        ]
        if len(targeting) == 1:
            return self._with_carried(self._one_of("pair", self.of_guide[targeting[0]]), carried)
        return None if targeting else _Cell("pair", None, self.control_target, carried)

    def _with_carried(self, cell: _Cell, carried: tuple[int, ...]) -> _Cell:
        return _Cell(cell.kind, cell.construct, cell.target, carried)

    def _recombined(self, guides: tuple[int, ...]) -> bool:
        if len(guides) != 2:
            return False
        first, second = (
            {
                self.guides[at].index(guide)
                for at in self.of_guide[guide]
                if len(self.guides[at]) > 1
            }
            for guide in guides
        )
        return any(a != b for a in first for b in second)


def _library(
    rows: list[tuple[str, str, str]], guides: np.ndarray, control_target: str | None, where: str
) -> _Library:
    position = {str(guide): at for at, guide in enumerate(guides)}
    targets: dict[str, str] = {}
    members: dict[str, list[int]] = {}
    for guide, construct, target in rows:
        if targets.setdefault(construct, target) != target:
            raise InputError(
                f"{where}: the construct {construct!r} has the targets {targets[construct]!r} and "
                f"{target!r}; give one (a name for both, such as 'A+B', where it has two)"
            )
        held = members.setdefault(construct, [])
        # Guides that the counts lack keep their place: the vector has them all the same.
        at = position.setdefault(guide, len(position))
        if at in held:
            raise InputError(
                f"{where}: the guide {guide!r} stands twice in the construct {construct!r}; leave "
                "one out"
            )
        held.append(at)
    of_guide: dict[int, list[int]] = {}
    for order, held in enumerate(members.values()):
        for at in held:
            of_guide.setdefault(at, []).append(order)
    missing = [str(guide) for at, guide in enumerate(guides) if at not in of_guide]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise InputError(
            f"{where}: {len(missing)} of {len(guides)} guides are in no construct of the table: "
            f"{', '.join(map(repr, missing[:SHOWN]))}{more}; add a row for each"
        )
    if control_target is not None and control_target not in targets.values():
        raise InputError(
            f"{where}: control_target is {control_target!r}, which no construct has as target"
        )
    return _Library(
        list(members),
        [targets[name] for name in members],
        [tuple(held) for held in members.values()],
        of_guide,
        control_target,
    )


def _rows(table: Any, where: str) -> list[tuple[str, str, str]]:
    """Return (guide, construct, target) of every row, as text."""
    import pandas as pd

    if isinstance(table, str | os.PathLike):
        table = _read(Path(table).expanduser())
    elif isinstance(table, Mapping):
        wrong = [guide for guide, value in table.items() if not _is_pair(value)]
        if wrong:
            raise InputTypeError(
                f"the constructs map guide {wrong[0]!r} to {table[wrong[0]]!r}; give "
                "{guide: (construct, target)}"
            )
        rows = [(guide, *value) for guide, value in table.items()]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
    elif not isinstance(table, pd.DataFrame):
        raise InputTypeError(
            f"constructs are given as a {type(table).__name__}; give a DataFrame, a dict from "
            "guide to (construct, target), or the path of a .csv or .tsv file"
        )
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise MissingColumnError(
            f"{where} has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, table.columns))}"
        )
    for name in COLUMNS:
        empty = np.flatnonzero((table[name].isna() | (table[name].astype(str) == "")).to_numpy())
        if len(empty):
            raise InputError(f"{where} has no {name} in row {empty[0] + 1}")
    columns = [table[name].astype(str) for name in COLUMNS]
    return list(zip(*columns, strict=True))


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _read(path: Path) -> pd.DataFrame:
    separator = separator_of(path)
    if separator is None:
        raise InputError(f"{path}: constructs are read from .csv and .tsv files (also .gz)")
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    return read_csv_text(path, separator)
