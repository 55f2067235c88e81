"""The programs that the pages of the documentation print do what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "pseudobulk.md"


def programs() -> list[str]:
    """Return the Python programs of the page."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:pydeseq2.*", "ignore::RuntimeWarning:pydeseq2.*")
def test_replicates_of_papalexi_through_pydeseq2(data_dir, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    [program] = [text for text in programs() if "pydeseq2" in text]
    names: dict = {}
    exec(compile(program, str(PAGE), "exec"), names)
    table = names["table"]
    assert names["counts"].shape == (26 * 3, 299)
    lowered = table.loc[["JAK2", "PSMB9", "STAT1", "UBE2L6"]]
    assert (lowered["log2FoldChange"] < -1).all()
    assert (lowered["padj"] < 1e-10).all()
    assert (table["log2FoldChange"].head(6) < 0).all()


def test_programs_of_the_page_are_python() -> None:
    texts = programs()
    assert len(texts) > 3
    for text in texts:
        compile(text, str(PAGE), "exec")
