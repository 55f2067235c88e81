"""Which guide each cell carries, and the calls joined to gene expression."""

from __future__ import annotations

from crispyx.guides.assignment import assign
from crispyx.guides.compare import Comparison, compare
from crispyx.guides.constructs import constructs
from crispyx.guides.decide import decide
from crispyx.guides.join import JoinSummary, add_to, join_summary
from crispyx.guides.moi import Multiplicity, moi
from crispyx.guides.output import write_calls
from crispyx.guides.score import ScoreResult, score

__all__ = [
    "Comparison",
    "JoinSummary",
    "Multiplicity",
    "ScoreResult",
    "add_to",
    "assign",
    "compare",
    "constructs",
    "decide",
    "join_summary",
    "moi",
    "score",
    "write_calls",
]
