"""Tables as CSV text that no spreadsheet runs as a formula.

A name that starts with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return is run as a formula
by spreadsheets that open the file (OWASP, "CSV injection"). Such a name gets an apostrophe in
front, which spreadsheets hide; :func:`read_csv_text` takes it away again. Numbers stay as they are.
"""

from __future__ import annotations

import gzip
import re
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crispyx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_STARTS_FORMULA = r"^'*[=+\-@\t\r]"
_PROTECTED = r"^'('*[=+\-@\t\r])"


def csv_bytes(table: pd.DataFrame, separator: str = ",", *, packed: bool = False) -> bytes:
    """Return a table as text, its index left out.

    Parameters
    ----------
    table : pandas.DataFrame
    separator : str
    packed : bool
        Compress by gzip, without a time: the same table gives the same bytes.

    Warns
    -----
    UserWarning
        Names were protected: how many, and the first.
    """
    protected: list[str] = []
    safe = table.copy()
    safe.columns = [_protect(name, protected) for name in table.columns]
    for place, (_, column) in enumerate(table.items()):
        if column.dtype.kind in "biufmM":
            continue
        text = column.astype(object)
        found = text.astype(str).str.contains(_STARTS_FORMULA)
        if found.any():
            text = text.where(~found, text.map(lambda value: _protect(value, protected)))
            safe.isetitem(place, text)
    if protected:
        warnings.warn(
            f"{len(protected)} names that a spreadsheet would run as a formula (the first: "
            f"{protected[0]!r}) have an apostrophe in front in the text; formats other than CSV "
            "and TSV keep them as they are",
            stacklevel=3,
        )
    text = safe.to_csv(sep=separator, index=False, lineterminator="\n").encode()
    return gzip.compress(text, mtime=0) if packed else text


def read_csv_text(path: Path, separator: str = ",") -> pd.DataFrame:
    """Read a table whose columns are all text, without the apostrophes of :func:`csv_bytes`.

    Raises
    ------
    InputError
        Not a table that can be read.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a table that can be read ({error})") from error
    table.columns = table.columns.str.replace(_PROTECTED, r"\1", regex=True)
    return table.apply(lambda column: column.str.replace(_PROTECTED, r"\1", regex=True))


def _protect(value: Any, protected: list[str]) -> Any:
    """Put an apostrophe before a text that is no number but starts like a formula."""
    if not isinstance(value, str) or re.match(_STARTS_FORMULA, value) is None or _number(value):
        return value
    protected.append(value)
    return f"'{value}"


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
