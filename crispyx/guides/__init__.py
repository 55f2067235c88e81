"""Which guide each cell carries, and the calls joined to gene expression."""

from __future__ import annotations

from crispyx.guides.assignment import assign
from crispyx.guides.join import JoinSummary, add_to, join_summary

__all__ = ["JoinSummary", "add_to", "assign", "join_summary"]
