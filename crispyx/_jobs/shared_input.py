"""An input that others open for themselves, and read in ranges of the axis it is stored by."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.paths import resolve_data_path
from crispyx._io.source import READ_VALUES, MatrixSource, open_source, without_lock
from crispyx._io.zarr_stores import is_address
from crispyx._jobs.ranges import in_ranges
from crispyx._run.executor import Workers, chosen_executor, workers_of
from crispyx._run.fingerprint import difference
from crispyx._run.latest import Latest, OfThread
from crispyx.errors import CrispyxWarning, InputError, InputTypeError

RANGES = 4  # of a pass for each worker, so that none waits long for the last
LEAST_VALUES = READ_VALUES  # of a range


@dataclass(frozen=True)
class SharedInput:
    """What another process opens the input with.

    Attributes
    ----------
    data : str or list of str
        The input as :func:`crispyx._io.source.open_source` takes it.
    layer : str or None
        Layer instead of X.
    identity : mapping
        Of the input that is meant.
    """

    data: Any
    layer: str | None
    identity: Mapping[str, Any]

    @contextmanager
    def opened(self) -> Iterator[MatrixSource]:
        """Yield the input as this thread has it open; it stays so until another is asked for.

        Raises
        ------
        InputError
            It is not there any more, or another one.
        """
        key = json.dumps([self.data, self.layer, self.identity], sort_keys=True)
        with _opened.using(key, lambda: OpenedInput(self._open)) as opened:
            source = opened.source()
            self._require(source)
            yield source

    def _open(self) -> MatrixSource:
        """Open the input; the process that asked for the work has it open with a lock."""
        with without_lock():
            source = open_source(self.data, self.layer)
        try:
            self._require(source)
        except InputError:
            source.close()
            raise
        return source

    def _require(self, source: MatrixSource) -> None:
        found = source.identity()
        if found != self.identity:
            raise InputError(
                f"{source.where} is not what the run began with: "
                f"{difference(self.identity, found)}; run again"
            )


class OpenedInput:
    """An input that every thread of a process has open for itself.

    Parameters
    ----------
    make : callable
        Opens it.
    """

    def __init__(self, make: Callable[[], MatrixSource]) -> None:
        self._make = make
        self._source: OfThread[MatrixSource] = OfThread()
        self._sources: list[MatrixSource] = []

    def source(self) -> MatrixSource:
        """Return this thread's input."""
        source = self._source.get()
        if source is None:
            source = self._make()
            self._sources.append(source)
            self._source.set(source)
        return source

    def close(self) -> None:
        """Close the input, wherever it was opened."""
        for source in self._sources:
            source.close()


_opened: Latest[OpenedInput] = Latest()


def close_inputs() -> None:
    """Close what this process has opened for others."""
    _opened.close()


@dataclass(frozen=True)
class Readers:
    """Workers that read one input.

    Attributes
    ----------
    shared : SharedInput
        The input.
    workers : Workers
        Who reads it.
    folder : pathlib.Path or None
        Where files go, see :func:`crispyx._jobs.ranges.in_ranges`.
    label, show
        Of the progress bar.
    """

    shared: SharedInput
    workers: Workers
    folder: Path | None
    label: str
    show: bool | None

    def in_ranges(
        self, function: Callable[[Any, int, int, int], Any], value: Any, edges: Sequence[int]
    ) -> list[Any]:
        """Return what ``function`` finds in every range; see there."""
        return in_ranges(
            function,
            value,
            edges,
            self.workers,
            folder=self.folder,
            label=self.label,
            show=self.show,
        )

    def major_edges(self, source: MatrixSource, most: int | None = None) -> list[int]:
        """Return ranges of the stored axis, one a task, ``most`` at most."""
        storage = source.storage
        n_ranges = min(storage.n_stored // LEAST_VALUES, RANGES * self.workers.n_workers)
        if most is not None:
            n_ranges = min(n_ranges, most)
        n_ranges = min(max(n_ranges, 1), storage.n_major)
        edges: list[int] = np.linspace(0, storage.n_major, n_ranges + 1).astype(int).tolist()
        return edges


@contextmanager
def readers_of(
    source: MatrixSource,
    data: Any,
    layer: str | None,
    executor: Any,
    n_jobs: int | None = None,
    *,
    output: Path | None,
    label: str,
    show: bool | None = None,
) -> Iterator[Readers | None]:
    """Yield who reads an input besides this process, None where nobody does.

    Parameters
    ----------
    source : MatrixSource
        The input, opened here.
    data, layer
        What it was opened with.
    executor : object
        See :func:`executor_for`, which has looked at it.
    n_jobs : int or None
        See :func:`crispyx._run.executor.workers_of`.
    output : pathlib.Path or None
        Files go beside it, or beside the input.
    label, show
        Of the progress bar.
    """
    if executor is None:
        yield None
        return
    beside = source.path if output is None or not output.parent.is_dir() else output
    shared = SharedInput(reopened_by(data), layer, source.identity())
    with workers_of(executor, n_jobs, at_end=close_inputs) as workers:
        yield Readers(shared, workers, beside.parent if beside else None, label, show)


def executor_for(given: Any, data: Any, *, stacklevel: int = 3) -> Any:
    """Return who computes on a data set, None for the threads of this process.

    Data in memory is computed on here, with a warning, where only ``settings.executor`` names
    somebody else. ``stacklevel`` is that of the warning.

    Raises
    ------
    InputError
        Nothing that computes; the call names somebody who cannot see this data.

    Warns
    -----
    CrispyxWarning
        ``settings.executor`` is passed over.
    """
    executor = chosen_executor(given)
    if executor is None:
        return None
    try:
        reopened_by(data)
    except InputError as error:
        if given is not None:
            raise
        warnings.warn(
            f"settings.executor is passed over, and threads of this process compute: {error}",
            CrispyxWarning,
            stacklevel=stacklevel,
        )
        return None
    return executor


def reopened_by(data: Any) -> Any:
    """Return what another process opens the input with.

    Raises
    ------
    InputError
        The data is in memory, or partly so, or at an address, which does not tell whether it is
        still the same.
    """
    if isinstance(data, (list, tuple)):
        return [reopened_by(one) for one in data]
    if isinstance(data, (str, os.PathLike)) and not is_address(data):
        return os.path.abspath(os.path.expanduser(data))
    try:
        return os.path.abspath(resolve_data_path(data))
    except InputTypeError as error:
        raise InputError(f"other processes cannot see this data: {error}") from error
