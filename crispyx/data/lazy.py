"""Views of obs, var and uns that read the file when they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.elements import element_names, read_element, read_table

if TYPE_CHECKING:
    import pandas as pd

PREVIEW_ROWS = 5


class _LazyFrameAccessor:
    """obs or var of a file, read once when first used; behaves like the DataFrame it stands for.

    Assigning a column changes the table in memory, never the file.
    """

    def __init__(self, path: Path, axis: str) -> None:
        self._path = path
        self._axis = axis
        self._frame: pd.DataFrame | None = None

    def load(self) -> pd.DataFrame:
        """Return the whole table; the same object at every call."""
        if self._frame is None:
            self._frame = read_table(self._path, self._axis)
        return self._frame

    def head(self, n: int = PREVIEW_ROWS) -> pd.DataFrame:
        """Return the first ``n`` rows."""
        return self.load().head(n)

    def _forget(self) -> None:
        self._frame = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.load(), name)

    def __getitem__(self, key: Any) -> Any:
        return self.load()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.load()[key] = value

    def __len__(self) -> int:
        return len(self.load())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.load())

    def __contains__(self, key: object) -> bool:
        return key in self.load()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.load().to_numpy(dtype=dtype, copy=bool(copy))

    def __repr__(self) -> str:
        return f"<{self._axis} preview>\n{self.head()}"


class _LazyUnsEntry:
    """One value of uns, read when first used; everything asked of it is passed to the value."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._value: Any = None
        self._loaded = False

    def load(self) -> Any:
        """Return the value; the same object at every call."""
        if not self._loaded:
            self._value = read_element(self._path, f"uns/{self._key}")
            self._loaded = True
        return self._value

    def preview(self) -> str:
        """Return the value as text."""
        return repr(self.load())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.load(), name)

    def __getitem__(self, key: Any) -> Any:
        return self.load()[key]

    def __len__(self) -> int:
        return len(self.load())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.load())

    def __contains__(self, item: object) -> bool:
        return item in self.load()

    def __eq__(self, other: object) -> Any:
        return self.load() == (other.load() if isinstance(other, _LazyUnsEntry) else other)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.load(), dtype=dtype)

    def __repr__(self) -> str:
        return self.preview()


class _LazyUnsMapping(Mapping[str, _LazyUnsEntry]):
    """uns of a file, read entry by entry; read only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, _LazyUnsEntry] | None = None

    def _known(self) -> dict[str, _LazyUnsEntry]:
        if self._entries is None:
            names = element_names(self._path, "uns")
            self._entries = {name: _LazyUnsEntry(self._path, name) for name in names}
        return self._entries

    def _forget(self) -> None:
        self._entries = None

    def __getitem__(self, key: str) -> _LazyUnsEntry:
        return self._known()[key]

    def __len__(self) -> int:
        return len(self._known())

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __repr__(self) -> str:
        known = self._known()
        if not known:
            return "<uns: empty>"
        return repr({key: entry.load() for key, entry in known.items()})
