"""Several calls at once, in threads and processes; locks; nothing left changed in the process."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.contents import differences, everything_in
from faults.operations import OPERATIONS
from faults.stage import Fault, Stage
from layouts import COLUMN, log_screen, write_h5ad

import crispyx as cx
from crispyx._run.lock import lock_path, writer_lock
from crispyx._run.termination import Terminated, ending_in_order
from crispyx.errors import OutputBusyError


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
@pytest.mark.parametrize("library", ["joblib", "dask"])
def test_workers_of_a_library_give_the_same_bits(
    library: str, screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    expected = p_values(screen, tmp_path / "alone.h5ad")
    jobs = [(screen, tmp_path / f"{k}.h5ad") for k in range(4)]
    if library == "joblib":
        joblib = pytest.importorskip("joblib")
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(p_values)(*job) for job in jobs)
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
    import matplotlib as mpl

    def state() -> dict[str, Any]:
        return {
            "settings": repr(cx.settings),
            "warnings": list(warnings.filters),
            "environment": dict(os.environ),
            "floating point": np.geterr(),
            "matplotlib": dict(mpl.rcParams),
            "signals": {s: signal.getsignal(s) for s in signal.valid_signals() if s not in (9, 19)},
            "folder": os.getcwd(),
            "random": np.random.get_state()[1].tolist(),  # noqa: NPY002 - the user's own
        }

    def work(k: int) -> None:
        p_values(screen, tmp_path / f"out{k}.h5ad")
        cx.t_test(screen, perturbation_column=COLUMN, output_path=tmp_path / f"t{k}.h5ad")
        cx.pp.pca(screen, n_comps=2, copy=False, show_progress=False)
        cx.data.convert_to_csc(screen, output_path=tmp_path / f"csc{k}.h5ad", verbose=False)

    work(0)  # what is imported once may register something once
    before = state()
    work(1)
    assert state() == before


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
