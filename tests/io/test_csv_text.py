"""CSV text: names come back as they were, and none is run as a formula."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispyx._io.csv_text import csv_bytes, read_csv_text

FORMULA = '=HYPERLINK("http://x", "guide")'
STARTS = ("=", "+", "-", "@", "\t")
names = st.text(
    st.sampled_from("=+-@'\t,\"ab1. "), min_size=1, max_size=6
)  # a carriage return ends a line of CSV in pandas


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def test_formula_is_protected_with_a_warning_that_names_it(path: Path) -> None:
    table = pd.DataFrame({"guide": ["A", FORMULA], "umi": [3, -4]})
    with pytest.warns(UserWarning, match="1 names .*=HYPERLINK"):
        text = csv_bytes(table)
    assert b"'=HYPERLINK" in text
    assert b"A,3\n" in text
    assert b",-4\n" in text
    path.write_bytes(text)
    assert read_csv_text(path)["guide"].tolist() == ["A", FORMULA]


@given(cells=st.lists(names, min_size=1, max_size=5), column=names)
def test_every_name_comes_back_and_none_starts_a_formula(
    cells: list[str], column: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = pd.DataFrame({column: cells, "end": "x"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = csv_bytes(table)
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes(text)
    plain = pd.read_csv(path, dtype=str, keep_default_na=False)
    for value in (plain.columns[0], *plain.iloc[:, 0]):
        assert not value.startswith(STARTS) or pd.notna(pd.to_numeric(value, errors="coerce"))
    back = read_csv_text(path)
    assert back.columns[0] == column
    assert back.iloc[:, 0].tolist() == cells


def test_numbers_written_as_text_stay_as_they_are(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path.write_bytes(csv_bytes(pd.DataFrame({"lfc": ["-1.5", "+2"], "x": [None, "a"]})))
    assert path.read_text() == "lfc,x\n-1.5,\n+2,a\n"


def test_packed_text_has_the_same_bytes_every_time() -> None:
    table = pd.DataFrame({"guide": ["A"]})
    assert csv_bytes(table, packed=True) == csv_bytes(table, packed=True)
    assert gzip.decompress(csv_bytes(table, packed=True)) == csv_bytes(table)
