"""Which guide each cell carries, and the calls joined to gene expression."""

from __future__ import annotations

from crispyx.guides.assignment import assign
from crispyx.guides.decide import decide
from crispyx.guides.join import JoinSummary, add_to, join_summary
from crispyx.guides.output import write_calls
from crispyx.guides.score import ScoreResult, score

__all__ = [
    "JoinSummary",
    "ScoreResult",
    "add_to",
    "assign",
    "decide",
    "join_summary",
    "score",
    "write_calls",
]
