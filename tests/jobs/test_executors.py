"""Whoever computes the blocks, the result has the bits of a run in one process."""

from __future__ import annotations

import os
import signal
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor as Threads
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import COLUMN, assert_same_bits, count_screen, log_screen, tables_of, write_h5ad
from negative_binomial_screens import nb_screen, run_nb, write_screen

import crispyx as cx
from crispyx._jobs import block_work
from crispyx._jobs.block_folder import BlockFolder
from crispyx._jobs.stage import close_stages
from crispyx._run import executor as executors
from crispyx._run.executor import Workers
from crispyx.de import elsewhere, t_test, wilcoxon_test
from crispyx.errors import CheckpointError, CrispyxWarning, InputError, WorkerError

Run = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "BLOCK_VALUES", (100, 100))
    monkeypatch.setattr(elsewhere, "UNIT_VALUES", 250)


def run(method: Any, screen: Path, name: str, **options: Any) -> dict[str, np.ndarray]:
    output = screen.with_name(f"{name}.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        if method is cx.nb_glm_test:
            run_nb(screen, output, **options)
        else:
            method(screen, perturbation_column=COLUMN, output_path=output, **options)
    return tables_of(output)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("values", [log_screen, count_screen])
@pytest.mark.parametrize("method", [wilcoxon_test, t_test])
def test_threads_of_an_executor_change_no_bit(method, values, layout, tmp_path: Path) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *values(), layout=layout)
    with Threads(2) as pool:
        found = run(method, screen, "there", executor=pool)
    assert_same_bits(found, run(method, screen, "here"))
    assert {path.name for path in tmp_path.iterdir()} == {"screen.h5ad", "here.h5ad", "there.h5ad"}


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "pydeseq2", "lfc_shrinkage_type": "apeglm"},
        {"preset": "calibrated"},
        {"dispersion": 0.3},
        {"lfc_shrinkage_type": "apeglm", "chunk_size": 4},
        {"size_factors": np.linspace(0.5, 2, 65)},
    ],
    ids=["defaults", "pydeseq2", "calibrated", "fixed dispersion", "shrunk", "size factors"],
)
def test_passes_with_barriers_change_no_bit(options: dict, layout: str, tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad", layout=layout)
    with Threads(2) as pool:
        found = run(cx.nb_glm_test, screen, "there", executor=pool, **options)
    assert_same_bits(found, run(cx.nb_glm_test, screen, "here", **options))


@pytest.mark.parametrize("method", [wilcoxon_test, t_test, cx.nb_glm_test])
def test_processes_change_no_bit(method, processes: Executor, tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    found = run(method, screen, "there", executor=processes)
    assert_same_bits(found, run(method, screen, "here"))


def test_batches_and_the_rest_of_the_screen_are_compared_elsewhere_too(tmp_path: Path) -> None:
    values, labels = log_screen()
    paths = [
        write_h5ad(tmp_path / f"{name}.h5ad", values[part], labels[part])
        for name, part in (("one", slice(0, 30)), ("two", slice(30, None)))
    ]
    options = {"batch_column": "file", "control_label": "rest"}
    found = []
    for name, executor in (("here", None), ("there", Threads(2))):
        output = tmp_path / f"{name}.h5ad"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CrispyxWarning)
            wilcoxon_test(
                paths,
                perturbation_column=COLUMN,
                output_path=output,
                executor=executor,
                **options,
            )
        found.append(tables_of(output))
    assert_same_bits(*found)


def test_what_is_said_of_the_data_does_not_depend_on_who_computes(tmp_path: Path) -> None:
    values, labels = count_screen()
    values[5, 7] = -3
    said = []
    for layout in ("csr", "csc"):
        screen = write_h5ad(tmp_path / f"{layout}.h5ad", values, labels, layout=layout)
        for executor in (None, Threads(2)):
            with pytest.warns(CrispyxWarning) as caught:
                wilcoxon_test(
                    screen,
                    perturbation_column=COLUMN,
                    output_path=tmp_path / "out.h5ad",
                    force=True,
                    executor=executor,
                )
            said.append([str(one.message).replace(layout, "") for one in caught])
    assert any("negative" in text for text in said[0])
    assert all(one == said[0] for one in said)


def calls_of(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> list[int]:
    """Record the blocks computed; ``act`` is called with their number so far, before each."""
    begun: list[int] = []
    compute = block_work.run_block

    def counted(path: str, key: str, number: int, n_threads: int) -> None:
        act(len(begun))
        begun.append(number)
        compute(path, key, number, n_threads)

    monkeypatch.setattr(elsewhere, "run_block", counted)
    return begun


def interrupt_after(monkeypatch: pytest.MonkeyPatch, n_blocks: int) -> None:
    """Let Ctrl-C come when so many blocks are done."""
    results = Workers.run

    def interrupted(self: Workers, function: Any, tasks: Any) -> Iterator[int]:
        for done, number in enumerate(results(self, function, tasks), start=1):
            yield number
            if done == n_blocks and function is elsewhere.run_block:
                raise KeyboardInterrupt

    monkeypatch.setattr(Workers, "run", interrupted)


@pytest.mark.parametrize("method", [wilcoxon_test, cx.nb_glm_test])
def test_interrupted_run_computes_only_the_blocks_that_are_missing(
    method, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    with Threads(1) as pool:
        expected = run(method, screen, "here")
        with monkeypatch.context() as patch:
            every = calls_of(patch, lambda _: None)
            run(method, screen, "all", executor=pool)
        with monkeypatch.context() as patch:
            interrupt_after(patch, 2)
            with pytest.raises(KeyboardInterrupt) as stopped:
                run(method, screen, "out", executor=pool)
        n_passes = 2 if method is cx.nb_glm_test else 1
        said = f"2 of {len(every) // n_passes} blocks are kept"
        assert said in stopped.value.__notes__[0]
        pool.submit(int).result()  # blocks that were handed out are finished
        kept = {int(path.stem) for path in (tmp_path / "out.h5ad.blocks/tiles").glob("*.tile")}
        begun = calls_of(monkeypatch, lambda _: None)
        found = run(method, screen, "out", executor=pool, resume=True)
    assert 2 <= len(kept) < len(every)
    assert set(begun) == set(every) - kept
    assert_same_bits(found, expected)


def test_resuming_with_other_parameters_is_refused(monkeypatch, tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    with Threads(1) as pool:
        with monkeypatch.context() as patch:
            interrupt_after(patch, 1)
            with pytest.raises(KeyboardInterrupt):
                run(wilcoxon_test, screen, "out", executor=pool)
        with pytest.raises(CheckpointError, match="tie_correct True -> False"):
            run(wilcoxon_test, screen, "out", executor=pool, resume=True, tie_correct=False)


def test_killed_process_is_replaced_and_its_block_computed_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    make, results = executors._own_processes, Workers.run
    made: list[ProcessPoolExecutor] = []

    def recorded(n_workers: int) -> ProcessPoolExecutor:
        made.append(make(n_workers))
        return made[-1]

    def killing(self: Workers, function: Any, tasks: Any) -> Iterator[int]:
        for number in results(self, function, tasks):
            if function is elsewhere.run_block and len(made) == 1:
                for process in list(made[0]._processes):
                    os.kill(process, signal.SIGKILL)
            yield number

    monkeypatch.setattr(executors, "_own_processes", recorded)
    monkeypatch.setattr(Workers, "run", killing)
    found = run(wilcoxon_test, screen, "there", executor="processes", n_jobs=1)
    assert len(made) == 2
    assert_same_bits(found, run(wilcoxon_test, screen, "here"))


class Losing(Executor):
    """Loses the workers of some calls, which ``lost`` is told the arguments and the number of."""

    def __init__(self, lost: Callable[[tuple, int], bool]) -> None:
        self.n_calls, self._lost = 0, lost

    def submit(self, function: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.n_calls += 1
        if self._lost(args, self.n_calls):
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(function(*args, **more))
        return future


def test_lost_blocks_are_handed_out_again(tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    seen: set[tuple] = set()

    def is_new(task: tuple, call: int) -> bool:
        new = task not in seen
        seen.add(task)
        return new

    pool = Losing(is_new)
    found = run(cx.nb_glm_test, screen, "there", executor=pool)
    assert pool.n_calls == 2 * len(seen)
    assert_same_bits(found, run(cx.nb_glm_test, screen, "here"))


def test_block_lost_three_times_is_an_error_and_the_others_are_kept(tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    pool = Losing(lambda _, call: call > 5)
    with pytest.raises(WorkerError, match=r"lost with its worker 3 times.*resume=True"):
        run(wilcoxon_test, screen, "out", executor=pool)
    assert list((tmp_path / "out.h5ad.blocks/tiles").iterdir())
    with Threads(1) as threads:
        found = run(wilcoxon_test, screen, "out", executor=threads, resume=True)
    assert_same_bits(found, run(wilcoxon_test, screen, "here"))


def test_broken_executor_of_the_caller_is_named() -> None:
    class Broken(Losing):
        def submit(self, function: Any, /, *args: Any, **more: Any) -> Future[Any]:
            raise BrokenExecutor("a process ended")

    with pytest.raises(WorkerError, match=r"Broken cannot replace it.*executor='processes'"):
        list(Workers(Broken(lambda *_: True), 1, 1).run(print, [()]))


def test_error_of_the_work_is_not_taken_for_a_lost_worker(tmp_path: Path) -> None:
    values, labels = nb_screen()
    values[3, 4] = np.nan
    screen = write_h5ad(tmp_path / "screen.h5ad", values, labels)
    with Threads(2) as pool, pytest.raises(InputError, match="holds nan at cell"):
        run(wilcoxon_test, screen, "out", executor=pool)


def test_data_in_memory_cannot_travel(tmp_path: Path) -> None:
    import anndata

    values, labels = nb_screen()
    adata = anndata.AnnData(values, obs={COLUMN: labels})
    with Threads(1) as pool, pytest.raises(InputError, match="other processes cannot see"):
        run_nb(adata, tmp_path / "out.h5ad", executor=pool)


def test_executor_of_the_session_leaves_data_in_memory_to_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import anndata

    values, labels = nb_screen()
    adata = anndata.AnnData(values, obs={COLUMN: labels})
    pool = Losing(lambda *_: False)
    found = []
    for name, executor in (("here", None), ("there", pool)):
        monkeypatch.setattr(cx.settings, "_executor", executor)
        with pytest.warns(CrispyxWarning) as caught:
            t_test(adata, perturbation_column=COLUMN, output_path=tmp_path / f"{name}.h5ad")
        said = [one for one in caught if "settings.executor is passed over" in str(one.message)]
        assert [one.filename for one in said] == [__file__] * (executor is not None)
        found.append(tables_of(tmp_path / f"{name}.h5ad"))
    assert pool.n_calls == 0
    assert_same_bits(*found)


@pytest.mark.parametrize("given", ["clouds", 7])
def test_what_does_not_compute_is_refused(given: Any, tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    with pytest.raises(InputError, match=f"executor is {given!r}; choose"):
        run(wilcoxon_test, screen, "out", executor=given)
    with pytest.raises(InputError, match=f"executor is {given!r}; choose"):
        cx.settings.executor = given


def test_settings_choose_the_executor_of_every_call(monkeypatch, tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    pool = Losing(lambda *_: False)
    monkeypatch.setattr(cx.settings, "_executor", pool)
    run(wilcoxon_test, screen, "out")
    assert pool.n_calls > 1


def test_memory_of_a_block_does_not_grow_with_the_number_of_genes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()  # parts of the usual size
    peaks = []
    for n_genes in (200, 2_000):
        rng = np.random.default_rng(0)
        values = rng.poisson(0.5, (400, n_genes)).astype(np.float64)
        labels = rng.choice(["control", "A", "B"], 400).tolist()
        screen = write_h5ad(tmp_path / f"{n_genes}.h5ad", values, labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CrispyxWarning)
            plan = cx.de.plan_blocks(
                screen,
                perturbation_column=COLUMN,
                output_path=screen.with_suffix(".out"),
                chunk_size=100,
            )
        folder, key = str(plan.folder), BlockFolder(plan.folder).key(block_work.MANIFEST)
        block_work.run_block(folder, key, 0, 1)  # what is read once is read
        tracemalloc.start()
        block_work.run_block(folder, key, 1, 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        close_stages()
    # Ten times the genes: the list of blocks is longer.
    assert peaks[1] < 1.1 * peaks[0]
