"""Calls as plain tables: one row a cell, one row a call, or Cell Ranger's lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.csv_text import read_csv_text
from crispyx.errors import InputError, MissingColumnError
from crispyx.guides.arrow_files import ARROW_SUFFIXES, PARQUET_SUFFIXES, read_arrow
from crispyx.guides.calls import BARCODE

if TYPE_CHECKING:
    import pandas as pd

CELL_RANGER_COLUMNS = ("num_features", "feature_call", "num_umis")
SEPARATOR = "|"
CELL_COLUMNS = ("guide_id", "umi_count", "is_unassigned", "is_multi_infected", "n_guides_detected")
PAIR_COLUMNS = ("guide_id", "umi_count")
# They repeat the guide or say what every row of a table of calls has in common.
NOT_OF_PAIRS = ("guide_id", "guide_identity", "umi_count", "is_unassigned")
SUFFIXES = {".csv": ",", ".tsv": "\t"}


def separator_of(path: Path) -> str | None:
    """Return the separator of a text table, packed or not; None for another suffix."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def is_table_file(path: Path) -> bool:
    """Tell whether the suffix is that of a table."""
    return separator_of(path) is not None or path.suffix.lower() in (
        *PARQUET_SUFFIXES,
        *ARROW_SUFFIXES,
    )


def pair_table(obs: pd.DataFrame, calls: Any, counts: Any, guides: np.ndarray) -> pd.DataFrame:
    """Return one row for every call, cell after cell.

    Parameters
    ----------
    obs : pandas.DataFrame (n_cells rows)
        Calls by cell.
    calls, counts : scipy.sparse.csr_matrix (n_cells, n_guides)
        1 for a call; UMIs.
    guides : numpy.ndarray (n_guides,) str
        Guide names.

    Returns
    -------
    pandas.DataFrame (n_calls rows)
        ``cell_barcode``, ``guide_id``, ``umi_count``, then the columns of ``obs``;
        ``assignment_confidence`` only beside the guide that it belongs to.
    """
    import pandas as pd

    cells, columns, umi = _pairs(calls, counts)
    guide = np.asarray(guides, dtype=object)[columns]
    rest = obs.drop(columns=[name for name in NOT_OF_PAIRS if name in obs]).iloc[cells]
    table = rest.reset_index(drop=True)
    if "assignment_confidence" in table:
        own = obs["guide_id"].astype(object).to_numpy()[cells] == guide
        table["assignment_confidence"] = table["assignment_confidence"].where(own)
    for at, (name, values) in enumerate(
        {
            BARCODE: obs.index.to_numpy()[cells],
            "guide_id": pd.Categorical(guide, categories=pd.unique(guide)),
            "umi_count": umi,
        }.items()
    ):
        table.insert(at, name, values)
    return table


def cell_ranger_table(
    obs: pd.DataFrame, calls: Any, counts: Any, guides: np.ndarray
) -> pd.DataFrame:
    """Return Cell Ranger's table: cells with a call, their guides and UMIs separated by ``|``.

    Raises
    ------
    InputError
        A guide name holds the separator.
    """
    import pandas as pd

    holding = [str(guide) for guide in guides if SEPARATOR in str(guide)]
    if holding:
        raise InputError(
            f"the guide {holding[0]!r} has {SEPARATOR!r} in its name, which separates guides in "
            "Cell Ranger's table; rename it, or write another format"
        )
    cells, columns, umi = _pairs(calls, counts)
    frame = pd.DataFrame(
        {"cell": cells, "guide": np.asarray(guides, dtype=object)[columns], "umi": umi.astype(str)}
    )
    lists = frame.groupby("cell", sort=True).agg(
        num_features=("guide", "size"),
        feature_call=("guide", SEPARATOR.join),
        num_umis=("umi", SEPARATOR.join),
    )
    lists.insert(0, BARCODE, obs.index.to_numpy()[lists.index])
    return lists.reset_index(drop=True)


def _pairs(calls: Any, counts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, column and count of every call, by cell and then by guide."""
    import scipy.sparse as sp

    called = sp.csr_matrix(calls, copy=True)
    called.eliminate_zeros()
    called.sort_indices()
    cells = np.repeat(np.arange(called.shape[0]), np.diff(called.indptr))
    umi = np.asarray(sp.csr_matrix(counts)[cells, called.indices]).ravel()
    return cells, called.indices, umi


def read_call_table(path: Path) -> pd.DataFrame:
    """Read a table of calls of any of the formats; ``cell_barcode`` is one of its columns.

    Raises
    ------
    InputError
        Not a table that can be read.
    """
    separator = separator_of(path)
    if separator is None:
        import pyarrow as pa

        try:
            table = read_arrow(path).to_pandas()
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise InputError(f"{path}: not a table that can be read ({error})") from error
    else:
        table = read_csv_text(path, separator)
    return table


def split_lists(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return one row for every call of Cell Ranger's table.

    Raises
    ------
    InputError
        A cell with another number of guides than of counts.
    """
    import pandas as pd

    names = table["feature_call"].astype(str).str.split(SEPARATOR, regex=False)
    umis = table["num_umis"].astype(str).str.split(SEPARATOR, regex=False)
    lengths = names.str.len().to_numpy()
    wrong = np.flatnonzero(lengths != umis.str.len().to_numpy())
    if len(wrong):
        cell = table[BARCODE].iloc[wrong[0]]
        raise InputError(
            f"{where}: cell {cell!r} has {lengths[wrong[0]]} guides in 'feature_call' but "
            f"{len(umis.iloc[wrong[0]])} numbers in 'num_umis'; the table is damaged"
        )
    return pd.DataFrame(
        {
            BARCODE: np.repeat(table[BARCODE].to_numpy(), lengths),
            "guide_id": names.explode().to_numpy(),
            "umi_count": umis.explode().to_numpy(),
        }
    )


def cells_of_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell, in order of first appearance, from one row a call."""
    import pandas as pd

    barcodes = pairs[BARCODE].to_numpy()
    order = pd.Index(pd.unique(barcodes), name=BARCODE)
    first = (
        pairs.assign(row=np.arange(len(pairs)))
        .sort_values(["umi_count", "row"], ascending=[False, True])
        .drop_duplicates(BARCODE)
        .set_index(BARCODE)
        .loc[order]
        .drop(columns="row")
    )
    number = pairs.groupby(BARCODE, sort=False).size().loc[order].to_numpy()
    first["is_unassigned"] = False
    first["is_multi_infected"] = number > 1
    first["n_guides_detected"] = number
    return first


def typed(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a table whose counts are numbers, flags bool and absent guides missing.

    Raises
    ------
    InputError
        A value of another kind.
    """
    import pandas as pd

    table = table.copy()
    table[BARCODE] = table[BARCODE].astype(str)
    for name in ("guide_id", "construct", "target", "guide_class"):
        if name in table:
            text = table[name].astype(object)
            table[name] = text.where(~(pd.isna(text) | (text == "")), None)
    for name in ("umi_count", "n_guides_detected"):
        if name in table:
            numbers = pd.to_numeric(table[name].replace("", None), errors="coerce")
            wrong = numbers.isna() & ~(pd.isna(table[name]) | (table[name] == ""))
            if wrong.any():
                value = table[name][wrong].iloc[0]
                raise InputError(f"{where}: {name} holds {value!r} where a number is needed")
            table[name] = numbers.astype("UInt64")
    for name in ("is_unassigned", "is_multi_infected"):
        if name in table and table[name].dtype != bool:
            flags = table[name].astype(str).str.lower().map({"true": True, "false": False})
            if flags.isna().any():
                value = table[name][flags.isna()].iloc[0]
                raise InputError(f"{where}: {name} holds {value!r} where true or false is needed")
            table[name] = flags.astype(bool)
    return table


def require_columns(table: pd.DataFrame, where: str) -> str:
    """Return ``"cells"``, ``"pairs"`` or ``"lists"``: what one row of a table stands for.

    Raises
    ------
    MissingColumnError
        The columns are those of none of them.
    """
    columns = set(table.columns)
    if BARCODE in columns:
        for kind, needed in (
            ("cells", CELL_COLUMNS),
            ("lists", CELL_RANGER_COLUMNS),
            ("pairs", PAIR_COLUMNS),
        ):
            if columns.issuperset(needed):
                return kind
    missing = [name for name in (BARCODE, *CELL_COLUMNS) if name not in columns]
    raise MissingColumnError(
        f"{where} has no {', '.join(map(repr, missing))}; give what crispyx.guides.assign or "
        "decide returned as calls, or a file of it"
    )
