"""The main job on one screen, from guide counts to a report."""

from __future__ import annotations

from crispyx.cli.demo.closing import closing_summary
from crispyx.cli.demo.workflow import DemoOptions, DemoOutcome, run_demo

__all__ = ["DemoOptions", "DemoOutcome", "closing_summary", "run_demo"]
