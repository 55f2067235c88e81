"""Who computes: the executors that users have, behind one door.

Nothing is scheduled here. Tasks go to ``concurrent.futures`` or to ``dask.distributed`` as they
are; what is added is that a task lost with its worker is handed out again, a bounded number of
times.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any

from crispyx._run.threads import resolve_threads
from crispyx.errors import InputError, WorkerError
from crispyx.settings import EXECUTORS, settings

ATTEMPTS = 3  # of one task, before its loss is an error
AHEAD = 2  # tasks handed out for each worker: one in work, one waiting
LOOK = 0.01  # seconds between two looks at futures that cannot be waited for
PATIENCE = 1.0  # seconds between two looks at whether a scheduler is still there
CONTINUE = "what is complete is kept: call again with resume=True"


class Workers:
    """An executor with the little that crispyx asks of it.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Where tasks go.
    n_workers : int
        Tasks it works on at a time.
    n_threads : int
        Threads of one task.
    most_ahead : int or None
        Tasks handed out at a time; None hands out all, for workers that come and go.
    renew : callable or None
        Returns a new executor in the place of a broken one.
    wait_for : callable
        Returns those of some futures that are done, after a second at most.
    is_alive : callable or None
        Tells whether somebody still answers.
    broadcast : callable or None
        Has every worker call a function, where workers can be told from each other.
    """

    def __init__(
        self,
        executor: Executor,
        n_workers: int,
        n_threads: int,
        *,
        most_ahead: int | None = None,
        renew: Callable[[], Executor] | None = None,
        wait_for: Callable[[Collection[Any]], Collection[Any]] | None = None,
        is_alive: Callable[[], bool] | None = None,
        broadcast: Callable[[Callable[[], None]], Any] | None = None,
    ) -> None:
        self.executor = executor
        self.n_workers, self.n_threads = n_workers, n_threads
        self._most_ahead, self._renew, self._is_alive = most_ahead, renew, is_alive
        self._broadcast = broadcast
        self._wait = wait_for or _first_of

    def run(
        self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]
    ) -> Generator[int, None, None]:
        """Call ``function(*task)`` for every task; yield the number of each as it is done.

        Parameters
        ----------
        function : callable
            Of a module; doing it twice must do no harm.
        tasks : sequence of tuple
            Paths and numbers: they travel.

        Raises
        ------
        WorkerError
            A task was lost with its worker for the third time, or there are no workers any more.
        """
        lost: Counter[int] = Counter()
        waiting = deque(range(len(tasks)))
        running: dict[Future[Any], int] = {}
        most = len(tasks) if self._most_ahead is None else self._most_ahead
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    number = waiting.popleft()
                    running[self._submit(function, tasks[number])] = number
                done = self._wait(running)
                self._require_answer()
                broken = False
                for future in done:
                    number = running.pop(future)
                    error = _error_of(future)
                    if error is None:
                        yield number
                    elif not _is_loss(error):
                        raise error
                    else:
                        broken |= isinstance(error, BrokenExecutor)
                        self._count_loss(lost, number, tasks[number], error)
                        waiting.appendleft(number)
                if broken:
                    waiting.extendleft(running.values())
                    running.clear()
                    self._replace_executor()
        finally:
            if self._is_alive is None or self._is_alive():
                for future in running:
                    future.cancel()

    def everywhere(self, function: Callable[[], None]) -> None:
        """Have every worker call a function of a module, where they can be told from each other."""
        if self._broadcast is not None and (self._is_alive is None or self._is_alive()):
            self._broadcast(function)

    def _submit(self, function: Callable[..., Any], task: tuple[Any, ...]) -> Future[Any]:
        self._require_answer()
        try:
            return self.executor.submit(function, *task)
        except BrokenExecutor:
            self._replace_executor()
            return self.executor.submit(function, *task)

    def _count_loss(
        self, lost: Counter[int], number: int, task: tuple[Any, ...], error: BaseException
    ) -> None:
        lost[number] += 1
        if lost[number] >= ATTEMPTS:
            raise WorkerError(
                f"{task} was lost with its worker {ATTEMPTS} times ({error!r}): memory may be too "
                f"small for it, or the machine went away; {CONTINUE}, with less memory_limit_gb= "
                "or a smaller chunk_size= if memory ran out"
            ) from error

    def _replace_executor(self) -> None:
        if self._renew is None:
            raise WorkerError(
                f"a process of the executor ended abruptly, and {type(self.executor).__name__} "
                f"cannot replace it; {CONTINUE} and a new executor, or executor='processes'"
            )
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = self._renew()

    def _require_answer(self) -> None:
        if self._is_alive is not None and not self._is_alive():
            raise WorkerError(
                f"the dask scheduler does not answer any more; {CONTINUE} and a new Client"
            )


@contextmanager
def workers_of(
    given: Any, n_jobs: int | None, *, at_end: Callable[[], None] | None = None
) -> Iterator[Workers]:
    """Yield the workers behind what a user gave as ``executor``; those made here end with it.

    Parameters
    ----------
    given : {"processes"}, Executor or dask.distributed.Client
        Who computes.
    n_jobs : int or None
        Processes of one thread for ``"processes"`` (None takes every core); otherwise threads of
        one task, None for one.
    at_end : callable or None
        Of a module: called in the end by this process, whose threads may be the workers, and by
        every worker of a dask cluster.
    """
    with ExitStack() as ending:
        if at_end is not None:
            ending.callback(at_end)
        workers = ending.enter_context(_workers(given, n_jobs))
        if at_end is not None:
            ending.callback(workers.everywhere, at_end)
        yield workers


@contextmanager
def _workers(given: Any, n_jobs: int | None) -> Iterator[Workers]:
    if given == "processes":
        n_workers = resolve_threads(n_jobs)
        pool = _own_processes(n_workers)
        workers = Workers(
            pool,
            n_workers,
            1,
            most_ahead=AHEAD * n_workers,
            renew=lambda: _own_processes(n_workers),
        )
        try:
            yield workers
        finally:
            workers.executor.shutdown(cancel_futures=True)
        return
    n_threads = 1 if n_jobs is None else resolve_threads(n_jobs)
    if hasattr(given, "scheduler_info"):  # a Client
        n_workers = max(1, sum(given.nthreads().values()))
        yield Workers(
            _OfDask(given),
            n_workers,
            n_threads,
            wait_for=_first_of_dask,
            is_alive=lambda: bool(given.status == "running"),
            broadcast=lambda function: given.run(function, on_error="ignore"),
        )
        return
    n_workers = max(1, getattr(given, "_max_workers", 1))
    yield Workers(given, n_workers, n_threads, most_ahead=AHEAD * n_workers)


def chosen_executor(given: Any) -> Any:
    """Return who computes blocks, None for the threads of this process.

    Raises
    ------
    InputError
        Nothing that computes.
    """
    given = settings.executor if given is None else given
    if given is None or (isinstance(given, str) and given == "threads"):
        return None
    if (isinstance(given, str) and given in EXECUTORS) or hasattr(given, "submit"):
        return given
    raise InputError(
        f"executor is {given!r}; choose one of {EXECUTORS}, give an Executor of "
        "concurrent.futures, a dask.distributed.Client, or None"
    )


def _own_processes(n_workers: int) -> ProcessPoolExecutor:
    # Not forked: the OpenMP and HDF5 libraries do not survive that. Ctrl-C is the caller's to
    # answer, and blocks in work are finished.
    return ProcessPoolExecutor(
        n_workers,
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )


def _first_of(futures: Collection[Future[Any]]) -> Collection[Future[Any]]:
    return wait(futures, timeout=PATIENCE, return_when=FIRST_COMPLETED).done


class _OfDask(Executor):
    """A client as an executor whose futures are dask's own.

    Those of ``client.get_executor()`` never end when the scheduler loses them.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, function: Any, /, *args: Any, **more: Any) -> Future[Any]:
        # A result is a file: a task that was done before is not done, as far as dask can know.
        future: Future[Any] = self._client.submit(function, *args, pure=False, **more)
        return future


def _first_of_dask(futures: Collection[Any]) -> Collection[Any]:
    """Look at futures of dask: what became of them is known here, without asking the scheduler."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done = [future for future in futures if future.status != "pending"]
        if done:
            return done
        time.sleep(LOOK)
    return []


def _error_of(future: Future[Any]) -> BaseException | None:
    lost = future.cancelled() or getattr(future, "status", None) == "lost"
    return CancelledError() if lost else future.exception()


def _is_loss(error: BaseException) -> bool:
    """Tell whether the worker is to blame, not the work."""
    return isinstance(error, (BrokenExecutor, CancelledError)) or (
        type(error).__module__.partition(".")[0] == "distributed"
    )
