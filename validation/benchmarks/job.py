"""What one process has to do and what it says about it; imports the standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "ours"


@dataclass(frozen=True)
class Job:
    """One operation of one tool on one file.

    Attributes
    ----------
    tool : str
        ``"ours"`` or the name of a peer.
    operation : str
        Name of the operation, such as ``"wilcoxon"``.
    input, output : str
        File to read, folder to write to.
    threads : int
        Threads the tool may use.
    parameters : mapping
        Columns, labels and settings of the operation, JSON values.
    preload : sequence of str
        Modules to import before the operation, which would import them itself.
    """

    tool: str
    operation: str
    input: str
    output: str
    threads: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    preload: Sequence[str] = ()

    def encode(self) -> str:
        """Return the job as one argument of a command line."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def decode(cls, text: str) -> Job:
        """Return the job of :meth:`encode`."""
        return cls(**json.loads(text))

    @property
    def folder(self) -> Path:
        """The folder to write to."""
        return Path(self.output)


@dataclass(frozen=True)
class Report:
    """What a process says about its job.

    Attributes
    ----------
    status : {"ok", "not built", "failed"}
        ``"not built"`` when this version of the tool lacks the operation.
    import_seconds, operation_seconds : float
        Wall time of the imports, and of the operation with its reading and writing.
    version : str
        Version of the tool.
    late_imports : sequence of str
        Modules that the operation itself imported, in the order it did.
    error : str
        Why it failed.
    """

    status: str
    import_seconds: float = 0.0
    operation_seconds: float = 0.0
    version: str = ""
    late_imports: Sequence[str] = ()
    error: str = ""
