"""``python -m faults.page TALLY PAGE``: put what was tried into the page of reliability."""

from __future__ import annotations

import json
import sys
from pathlib import Path

BEGIN, END = "<!-- tally: begin -->\n", "<!-- tally: end -->\n"


def table(record: dict) -> str:
    rows = [f"| {kind} | {number:,} |" for kind, number in record["tried"].items()]
    total = sum(record["tried"].values())
    lost = f"| **tests that found something lost or wrong** | **{record['losses']:,}** |"
    return "\n".join(["| tried | times |", "|---|---:|", *rows, f"| all | {total:,} |", lost, ""])


def main() -> None:
    record = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    page = Path(sys.argv[2])
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    page.write_text(before + BEGIN + table(record) + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
