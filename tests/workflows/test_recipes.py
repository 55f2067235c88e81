"""The programs that the pages of the documentation print do what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "pseudobulk.md"
FILES = PAGE.with_name("data_layer.md")


def programs(page: Path = PAGE) -> list[str]:
    """Return the Python programs of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


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


@pytest.mark.filterwarnings("ignore:.*have no label:crispyx.errors.CrispyxWarning")
def test_programs_about_files_run_one_after_another(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    texts = programs(FILES)
    for text in texts:
        exec(compile(text, str(FILES), "exec"), names)
    page = FILES.read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[.*`cx\.(\w+\.\w+)`", page, re.M)
    assert len(listed) == 8
    for name in listed:
        assert any(f"cx.{name}(" in text for text in texts), f"no program calls cx.{name}"
