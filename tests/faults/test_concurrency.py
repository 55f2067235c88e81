"""Several calls at once, in threads and processes; locks; nothing left changed in the process."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.contents import differences, everything_in
from faults.operations import OPERATIONS
from faults.stage import Fault, Stage
from layouts import COLUMN, count_screen, log_screen, write_h5ad

import crispyx as cx
from crispyx._run.lock import lock_path, writer_lock
from crispyx._run.quiet import leaving_out
from crispyx._run.termination import Terminated, ending_in_order
from crispyx._run.threads import one_blas_thread
from crispyx.errors import CrispyxWarning, OutputBusyError


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "screen.h5ad", *log_screen())


def p_values(screen: Path, output: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cx.wilcoxon_test(screen, perturbation_column=COLUMN, output_path=output).pvalues


def computed_elsewhere(arguments: tuple[Path, Path]) -> bytes:
    return p_values(*arguments).tobytes()


@pytest.mark.filterwarnings("ignore")
def test_calls_in_several_threads_give_the_same_bits(
    screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    expected = p_values(screen, tmp_path / "alone.h5ad")
    outputs = [tmp_path / f"out{k}.h5ad" for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda output: p_values(screen, output), outputs):
            np.testing.assert_array_equal(found, expected)
    tally["calls at once"] += len(outputs)


@pytest.mark.filterwarnings("ignore")
def test_threads_with_one_output_give_it_complete_or_are_refused(
    screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    expected = p_values(screen, tmp_path / "alone.h5ad")

    def attempt(_: int) -> bool:
        try:
            found = p_values(screen, tmp_path / "out.h5ad")
        except OutputBusyError:
            return False
        np.testing.assert_array_equal(found, expected)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert any(pool.map(attempt, range(8)))
    assert sorted(p.name for p in tmp_path.glob("*out*")) == ["out.h5ad"]
    tally["calls at once"] += 8


def test_spawned_process_gives_the_same_bits(screen: Path, tmp_path: Path) -> None:
    expected = p_values(screen, tmp_path / "alone.h5ad")
    program = (
        "import sys; from multiprocessing import get_context; from pathlib import Path\n"
        "from faults.test_concurrency import computed_elsewhere\n"
        "if __name__ == '__main__':\n"
        "    with get_context('spawn').Pool(2) as pool:\n"
        "        jobs = [(Path(sys.argv[1]), Path(sys.argv[2]) / f'{k}.h5ad') for k in (0, 1)]\n"
        "        sys.stdout.buffer.write(b''.join(pool.map(computed_elsewhere, jobs)))\n"
    )
    script = tmp_path / "spawn.py"
    script.write_text(program)
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script), str(screen), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == 2 * expected.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("library", ["joblib", "joblib threads", "dask"])
def test_workers_of_a_library_give_the_same_bits(
    library: str, screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    expected = p_values(screen, tmp_path / "alone.h5ad")
    jobs = [(screen, tmp_path / f"{k}.h5ad") for k in range(4)]
    if library.startswith("joblib"):
        joblib = pytest.importorskip("joblib")
        backend = "threading" if library == "joblib threads" else "loky"
        parallel = joblib.Parallel(n_jobs=2, backend=backend)
        found = parallel(joblib.delayed(p_values)(*job) for job in jobs)
    else:
        pytest.importorskip("distributed")
        from dask.distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=2, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            found = client.gather([client.submit(p_values, *job) for job in jobs])
    for values in found:
        np.testing.assert_array_equal(values, expected)
    tally["calls at once"] += len(jobs)


@pytest.mark.filterwarnings("ignore")
def test_calls_leave_the_process_as_it_was(screen: Path, tmp_path: Path) -> None:
    def work(k: int) -> None:
        p_values(screen, tmp_path / f"out{k}.h5ad")
        cx.t_test(screen, perturbation_column=COLUMN, output_path=tmp_path / f"t{k}.h5ad")
        cx.pp.pca(screen, n_comps=2, copy=False, show_progress=False)
        cx.data.convert_to_csc(screen, output_path=tmp_path / f"csc{k}.h5ad", verbose=False)

    work(0)  # what is imported once may register something once
    before = state_of_process()
    work(1)
    assert state_of_process() == before


def bits_of(path: Path) -> dict[str, bytes]:
    """Return what an operation wrote, without the names of files that it notes."""
    return {
        name: value
        for name, value in everything_in(path).items()
        if "fingerprint" not in name and "path" not in name
    }


def all_kinds(screen: Path, counts: Path) -> dict[str, Callable[[Path], Any]]:
    """Return operations that use kernels, linear algebra, figures and stores, by name."""
    column = {"perturbation_column": COLUMN}

    def components(output: Path) -> None:
        shutil.copy(screen, output)
        cx.pp.pca(output, n_comps=3, show_progress=False)

    def drawn(output: Path) -> None:
        result = cx.t_test(screen, **column, output_path=output)
        cx.pl.volcano(data=result, group="MYC", savepath=output.with_suffix(".png"), show=False)

    return {
        "wilcoxon": lambda output: cx.wilcoxon_test(screen, **column, output_path=output),
        "nb_glm": lambda output: cx.nb_glm_test(counts, **column, output_path=output),
        "residual effects": lambda output: cx.tl.residual_effects(
            screen, **column, output_path=output
        ),
        "components": components,
        "drawn": drawn,
        "profiles": lambda output: cx.pb.aggregate(counts, groupby=COLUMN, output_path=output),
    }


def state_of_process() -> dict[str, Any]:
    import matplotlib as mpl
    from threadpoolctl import threadpool_info

    return {
        "settings": dict(vars(cx.settings)),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "floating point": np.geterr(),
        "matplotlib": dict(mpl.rcParams),
        "signals": {s: signal.getsignal(s) for s in signal.valid_signals() if s not in (9, 19)},
        "folder": os.getcwd(),
        "random": np.random.get_state()[1].tolist(),  # noqa: NPY002 - the user's own
        "linear algebra": {
            info["filepath"]: info["num_threads"]
            for info in threadpool_info()
            if info["user_api"] == "blas"
        },
        "threads": [thread.name for thread in threading.enumerate() if "crispyx" in thread.name],
    }


@pytest.mark.filterwarnings("ignore")
def test_operations_of_all_kinds_at_once_give_the_same_bits_and_leave_nothing_changed(
    screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    counts = write_h5ad(tmp_path / "counts.h5ad", *count_screen())
    operations = all_kinds(screen, counts)
    expected = {}
    for name, operation in operations.items():
        operation(tmp_path / f"{name}.h5ad")
        expected[name] = bits_of(tmp_path / f"{name}.h5ad")
    jobs = [(name, tmp_path / f"{k} {name}.h5ad") for k in range(3) for name in operations]
    before = state_of_process()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: operations[job[0]](job[1]), jobs))
    assert state_of_process() == before
    for name, output in jobs:
        assert differences(bits_of(output), expected[name]) == [], name
    tally["calls at once"] += len(jobs)


@pytest.mark.filterwarnings("ignore")
def test_calls_within_an_event_loop_give_the_same_bits(
    screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    """As in a notebook, whose cells run inside a loop, with tasks beside them."""
    expected = p_values(screen, tmp_path / "alone.h5ad")
    store = tmp_path / "screen.zarr"

    async def cell() -> list[np.ndarray]:
        beside = [
            asyncio.create_task(asyncio.to_thread(p_values, screen, tmp_path / f"{k}.h5ad"))
            for k in range(3)
        ]
        await asyncio.sleep(0)
        cx.data.convert_to_csr(screen, output_path=store, verbose=False)
        here = [p_values(screen, tmp_path / "here.h5ad"), p_values(store, tmp_path / "s.h5ad")]
        return [*here, *await asyncio.gather(*beside)]

    for found in asyncio.run(cell()):
        np.testing.assert_array_equal(found, expected)
    tally["calls at once"] += 5


FORKED = """
import os, sys, warnings
from multiprocessing import get_context
from pathlib import Path
warnings.simplefilter("ignore")
from faults.test_concurrency import all_kinds, bits_of

folder = Path(sys.argv[1])
operations = all_kinds(folder / "screen.h5ad", folder / "counts.h5ad")

def work(job):
    name, place = job
    output = folder / place / f"{name}.h5ad"
    operations[name](output)
    return bits_of(output)

def jobs(place):
    (folder / place).mkdir()
    return [(name, place) for name in operations]

expected = list(map(work, jobs("here")))  # every library has started its threads
with get_context("fork").Pool(2) as pool:
    found = pool.map(work, jobs("there"), chunksize=1)
sys.exit([name for name, a, b in zip(operations, expected, found) if a != b])
"""


def test_forked_workers_end_and_give_the_same_bits(
    screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    write_h5ad(tmp_path / "counts.h5ad", *count_screen())
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.stderr.decode().strip() == "[]", done.stderr.decode()
    tally["calls at once"] += 6


def test_limit_of_linear_algebra_is_that_of_the_user_when_the_last_call_has_ended() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    def n_threads() -> set[int]:
        return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)  # in another order than threads nest
        assert n_threads() == {1}
        second.__exit__(None, None, None)
        assert n_threads() == {2}


def test_warnings_left_out_by_one_thread_come_back_whichever_ends_first() -> None:
    own = ("ignore", None, CrispyxWarning, None, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        before = list(warnings.filters)
        assert before[0] == own
        first, second = leaving_out(CrispyxWarning), leaving_out(CrispyxWarning)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert list(warnings.filters) != before
        second.__exit__(None, None, None)
        assert list(warnings.filters) == before


def test_lock_names_its_owner_and_goes_with_the_block(tmp_path: Path) -> None:
    output = tmp_path / "out.h5ad"
    with writer_lock(output):
        assert lock_path(output).read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(OutputBusyError, match=f"process {os.getpid()}"), writer_lock(output):
            pass
    assert not lock_path(output).exists()


@pytest.mark.parametrize(
    ("owner", "binds"),
    [
        ("", False),
        (f"process 999999999 on {socket.gethostname()}", False),
        (f"process {os.getppid()} on {socket.gethostname()}", True),
        ("process 1 on another-machine", True),
        ("something else", True),
    ],
)
def test_where_files_cannot_be_locked_the_owner_decides(
    owner: str, binds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Counter[str]
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    output = tmp_path / "out.h5ad"
    lock_path(output).write_text(owner)
    if not binds:
        with writer_lock(output):
            assert str(os.getpid()) in lock_path(output).read_text()
        assert not lock_path(output).exists()
    else:
        busy = pytest.raises(OutputBusyError, match="wait for it, or remove")
        with busy as error, writer_lock(output):
            pass
        assert str(lock_path(output)) in str(error.value)
        assert lock_path(output).read_text() == owner
    tally["locks of other processes"] += 1


def test_own_handler_of_the_program_is_left_alone() -> None:
    def own(*_: Any) -> None:
        raise RuntimeError("the program's own")

    before = signal.signal(signal.SIGTERM, own)
    try:
        with pytest.raises(RuntimeError, match="own"), ending_in_order():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_terminated_counts_as_an_interruption() -> None:
    assert issubclass(Terminated, KeyboardInterrupt)


def test_terminated_run_says_what_is_kept_and_how_to_go_on(
    stage: Stage, place: Path, tally: Counter[str]
) -> None:
    folder = place / "terminated"
    folder.mkdir()
    output = folder / "out.h5ad"
    outcome = stage.perform("wilcoxon", output, Fault(12, "terminate"))
    assert outcome.code == -signal.SIGTERM
    assert "crispyx: ended by SIGTERM; " in outcome.stderr
    assert "blocks are kept; resume=True continues" in outcome.stderr
    assert OPERATIONS["wilcoxon"].resumes
    again = stage.perform("wilcoxon", output, resume=True)
    assert again.code == 0, again.error
    whole = stage.perform("wilcoxon", folder / "whole.h5ad")
    assert whole.code == 0
    assert differences(everything_in(output), everything_in(folder / "whole.h5ad")) == []
    tally["SIGTERM"] += 1
