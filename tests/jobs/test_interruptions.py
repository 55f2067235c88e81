"""A run that was stopped anywhere goes on to the same bits, or says why it cannot."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from layouts import COLUMN, assert_same_bits, log_screen, tables_of, write_h5ad

from crispyx._jobs import plan
from crispyx.de import one_pass, t_test, wilcoxon_test
from crispyx.de.comparison import Comparison
from crispyx.errors import CheckpointError, InputError

WIDTH = 3
N_UNITS = 5  # 13 genes

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:in .* tests one arm"
)


@pytest.fixture(autouse=True)
def narrow_blocks(monkeypatch) -> None:
    monkeypatch.setattr(plan, "MAX_WIDTH", WIDTH)


@pytest.fixture(params=["csr", "csc"])
def screen(request, tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "screen.h5ad", *log_screen(), layout=request.param)


def run(method: Any, screen: Path, **options: Any) -> Path:
    options = {"checkpoint_interval": 1} | options
    return method(screen, perturbation_column=COLUMN, **options).result_path


def computed_units(monkeypatch, stop_at: int | None = None, error: Any = None) -> list[int]:
    """Record the first gene of every block computed; raise before one of them."""
    begun: list[int] = []
    compute = one_pass._tile

    def counted(block: Any, **options: Any) -> Any:
        if len(begun) == stop_at:
            raise error
        begun.append(block.start)
        return compute(block, **options)

    monkeypatch.setattr(one_pass, "_tile", counted)
    return begun


def stop_before(unit: int, error: type[BaseException], monkeypatch, *run_of: Any, **options: Any):
    """Start a run that is stopped before a block; return what was raised."""
    with monkeypatch.context() as patch:
        computed_units(patch, unit, error)
        with pytest.raises(error) as stopped:
            run(*run_of, **options)
    return stopped.value


def everything_in(path: Path) -> dict[str, Any]:
    """Return all datasets of a file, names, notes and fingerprint included."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda n, d: found.update({n: d[()]} if isinstance(d, h5py.Dataset) else {})
        )
    return found


def assert_same_file(path: Path, expected: dict[str, Any]) -> None:
    found = everything_in(path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("method", [wilcoxon_test, t_test])
@pytest.mark.parametrize("stop_at", range(N_UNITS))
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_run_stopped_before_any_block_resumes_to_the_same_file(
    method, stop_at: int, error: type[BaseException], screen: Path, monkeypatch
) -> None:
    expected = everything_in(run(method, screen, data_name="whole"))
    stopped = stop_before(stop_at, error, monkeypatch, method, screen)
    output = screen.with_name(f"crispyx_{'wilcoxon' if method is wilcoxon_test else 't_test'}.h5ad")
    assert not output.exists()
    if error is KeyboardInterrupt:
        assert f"{stop_at} of {N_UNITS} blocks are kept" in stopped.__notes__[0]
    begun = computed_units(monkeypatch)
    assert run(method, screen, resume=True) == output
    assert begun == [unit * WIDTH for unit in range(stop_at, N_UNITS)]
    assert_same_file(output, expected)
    assert sorted(path.name for path in screen.parent.iterdir()) == sorted(
        [screen.name, output.name, output.name.replace("crispyx_", "crispyx_whole_")]
    )


@pytest.mark.parametrize("interval", [1, 2, 4])
def test_run_killed_between_checkpoints_loses_only_what_came_after_the_last(
    interval: int, screen: Path, monkeypatch
) -> None:
    options = {"checkpoint_interval": interval}
    expected = tables_of(run(wilcoxon_test, screen, data_name="whole"))
    stop_before(3, RuntimeError, monkeypatch, wilcoxon_test, screen, **options)
    begun = computed_units(monkeypatch)
    # What was written after the checkpoint does not count, and does not stay.
    assert_same_bits(tables_of(run(wilcoxon_test, screen, resume=True, **options)), expected)
    assert begun[0] == 3 // interval * interval * WIDTH


def test_resumed_run_keeps_the_blocks_it_began_with(screen: Path, monkeypatch) -> None:
    expected = tables_of(run(wilcoxon_test, screen, data_name="whole"))
    stop_before(2, KeyboardInterrupt, monkeypatch, wilcoxon_test, screen, chunk_size=2)
    begun = computed_units(monkeypatch)
    found = tables_of(run(wilcoxon_test, screen, chunk_size=5, resume=True, n_jobs=2))
    assert begun == [4, 6, 8, 10, 12]
    assert_same_bits(found, expected)


def test_run_stopped_while_the_result_is_written_only_writes_again(screen, monkeypatch) -> None:
    expected = tables_of(run(wilcoxon_test, screen, data_name="whole"))
    with monkeypatch.context() as patch:
        patch.setattr(Comparison, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(wilcoxon_test, screen)
    begun = computed_units(monkeypatch)
    assert_same_bits(tables_of(run(wilcoxon_test, screen, resume=True)), expected)
    assert begun == []


def stopped_run(screen: Path, monkeypatch) -> Path:
    """Stop a Wilcoxon test before its third block; return the checkpoint."""
    stop_before(2, KeyboardInterrupt, monkeypatch, wilcoxon_test, screen)
    return screen.with_name("crispyx_wilcoxon.h5ad.progress.json")


def test_progress_is_readable_json_beside_the_output(screen: Path, monkeypatch) -> None:
    record = json.loads(stopped_run(screen, monkeypatch).read_text())
    assert record["state"] == {"width": WIDTH, "units": 2}
    assert record["fingerprint"]["kind"] == "wilcoxon"


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"tie_correct": False}, "parameters tie_correct True -> False"),
        ({"min_pct_ctrl": 0.5}, "parameters thresholds"),
        ({"perturbations": ["MYC"]}, r"perturbations None -> \['MYC'\]"),
    ],
)
def test_run_with_other_parameters_is_not_resumed(
    options, change: str, screen, monkeypatch
) -> None:
    progress = stopped_run(screen, monkeypatch)
    with pytest.raises(CheckpointError, match=change) as error:
        run(wilcoxon_test, screen, resume=True, **options)
    assert str(progress) in str(error.value)
    assert "resume=False to start afresh" in str(error.value)
    assert progress.exists()


def test_changed_input_is_not_resumed(screen: Path, monkeypatch) -> None:
    stopped_run(screen, monkeypatch)
    os.utime(screen, ns=(0, 0))
    with pytest.raises(CheckpointError, match=r"input mtime_ns .* -> 0"):
        run(wilcoxon_test, screen, resume=True)


def test_without_resume_a_run_starts_afresh(screen: Path, monkeypatch) -> None:
    progress = stopped_run(screen, monkeypatch)
    begun = computed_units(monkeypatch)
    run(wilcoxon_test, screen, tie_correct=False)
    assert begun[0] == 0
    assert not progress.exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"fingerprint": 1}', "no work file", "short"])
def test_damaged_progress_starts_afresh(damage: str, screen: Path, monkeypatch) -> None:
    expected = tables_of(run(wilcoxon_test, screen, data_name="whole"))
    progress = stopped_run(screen, monkeypatch)
    work = screen.with_name(".crispyx_wilcoxon.h5ad.work")
    if damage == "no work file":
        work.unlink()
    elif damage == "short":
        os.truncate(work, work.stat().st_size - 1)
    else:
        progress.write_text(damage)
    begun = computed_units(monkeypatch)
    assert_same_bits(tables_of(run(wilcoxon_test, screen, resume=True)), expected)
    assert begun[0] == 0


@pytest.mark.parametrize("interval", [0, -1])
def test_checkpoint_interval_below_one_is_refused(interval: int, screen: Path) -> None:
    with pytest.raises(InputError, match=f"checkpoint_interval is {interval}; give a whole number"):
        wilcoxon_test(screen, perturbation_column=COLUMN, checkpoint_interval=interval)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_stopped_run_leaves_no_thread_and_no_lock(error, screen: Path, monkeypatch) -> None:
    computed_units(monkeypatch, 1, error)
    with pytest.raises(error):
        run(wilcoxon_test, screen)
    assert [t.name for t in threading.enumerate() if t.name == "crispyx-reader"] == []
    assert list(screen.parent.glob("*lock")) == []
