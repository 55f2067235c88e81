"""Session-wide choices: threads, memory, engine, executor, bars, folders, zarr stores.

None of them changes a number; see ``docs/streaming.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from crispyx.errors import InputError

Engine = Literal["compiled", "reference"]
ENGINES = ("compiled", "reference")
EXECUTORS = ("threads", "processes")


class Settings:
    """Values used wherever a call does not say otherwise (``crispyx.settings``).

    Attributes
    ----------
    n_threads : int or None
        Threads of the compiled kernels; None takes every core this process may use.
    memory_limit_gb : float or None
        Memory budget of one operation in GB (1e9 bytes), the process included; None takes half of
        what is free, control-group (container, SLURM) limits included.
    engine : {"compiled", "reference"}
        ``"reference"`` runs the same public calls through the slow, readable definitions.
    executor : {"threads", "processes"}, Executor, dask.distributed.Client or None
        What computes the blocks of long operations; None and ``"threads"`` are this process. Any
        ``concurrent.futures.Executor`` will do. Data in memory, which others cannot see, is
        computed on by this process all the same, with a warning.
    progress : bool or None
        Progress bars on standard error; None shows them on a terminal only.
    scratch_dir : pathlib.Path or None
        Folder for scratch files; None takes the folder of the output.
    stage_dir : pathlib.Path or None
        Folder in which matrices that workers have turned around are kept and found by later tests
        of the same file; None removes them with the run. What is in it may be deleted at any time
        when nothing runs.
    zarr_format : {2, 3} or None
        Format of zarr stores that are written; None takes the one that anndata writes here.
    zarr_shards : bool
        Write zarr stores of format 3 in shards: few large files instead of many small ones.
    """

    def __init__(self) -> None:
        self._n_threads: int | None = None
        self._memory_limit_gb: float | None = None
        self._engine: Engine = "compiled"
        self._scratch_dir: Path | None = None
        self._stage_dir: Path | None = None
        self._zarr_format: Literal[2, 3] | None = None
        self._executor: Any = None
        self.progress: bool | None = None
        self.zarr_shards: bool = False

    @property
    def n_threads(self) -> int | None:
        """Threads of the kernels, or None."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        if value is not None and (isinstance(value, bool) or int(value) != value or value < 1):
            raise InputError(f"settings.n_threads is {value!r}; give a whole number >= 1 or None")
        self._n_threads = None if value is None else int(value)

    @property
    def memory_limit_gb(self) -> float | None:
        """Memory budget in GB, or None."""
        return self._memory_limit_gb

    @memory_limit_gb.setter
    def memory_limit_gb(self, value: float | None) -> None:
        if value is not None and not value > 0:
            raise InputError(f"settings.memory_limit_gb is {value!r}; give GB above 0 or None")
        self._memory_limit_gb = None if value is None else float(value)

    @property
    def engine(self) -> Engine:
        """Name of the engine."""
        return self._engine

    @engine.setter
    def engine(self, value: Engine) -> None:
        if value not in ENGINES:
            raise InputError(f"settings.engine is {value!r}; choose one of {ENGINES}")
        self._engine = value

    @property
    def executor(self) -> Any:
        """What computes blocks, or None."""
        return self._executor

    @executor.setter
    def executor(self, value: Any) -> None:
        if value is not None and value not in EXECUTORS and not hasattr(value, "submit"):
            raise InputError(
                f"settings.executor is {value!r}; choose one of {EXECUTORS}, give an Executor of "
                "concurrent.futures, a dask.distributed.Client, or None"
            )
        self._executor = value

    @property
    def scratch_dir(self) -> Path | None:
        """Folder of scratch files, or None."""
        return self._scratch_dir

    @scratch_dir.setter
    def scratch_dir(self, value: str | Path | None) -> None:
        self._scratch_dir = _folder("scratch_dir", value)

    @property
    def stage_dir(self) -> Path | None:
        """Folder of matrices turned around, or None."""
        return self._stage_dir

    @stage_dir.setter
    def stage_dir(self, value: str | Path | None) -> None:
        self._stage_dir = _folder("stage_dir", value)

    @property
    def zarr_format(self) -> Literal[2, 3] | None:
        """Format of written zarr stores, or None."""
        return self._zarr_format

    @zarr_format.setter
    def zarr_format(self, value: Literal[2, 3] | None) -> None:
        if value not in (2, 3, None):
            raise InputError(f"settings.zarr_format is {value!r}; give 2, 3 or None")
        self._zarr_format = value

    def __repr__(self) -> str:
        names = (
            "n_threads",
            "memory_limit_gb",
            "engine",
            "executor",
            "progress",
            "scratch_dir",
            "stage_dir",
            "zarr_format",
            "zarr_shards",
        )
        return "Settings(" + ", ".join(f"{n}={getattr(self, n)!r}" for n in names) + ")"


def _folder(name: str, value: str | Path | None) -> Path | None:
    if value is not None and not Path(value).is_dir():
        raise InputError(f"settings.{name} {str(value)!r} is not a folder; create it first")
    return None if value is None else Path(value)


settings = Settings()


@contextmanager
def use_engine(engine: Engine) -> Iterator[None]:
    """Run the calls inside the ``with`` block on one engine, then return to the one before.

    Parameters
    ----------
    engine : {"compiled", "reference"}
        See :class:`Settings`.

    Yields
    ------
    None
    """
    before = settings.engine
    settings.engine = engine
    try:
        yield
    finally:
        settings.engine = before
