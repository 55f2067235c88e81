"""The negative binomial test, stopped in either pass, goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import assert_same_bits, tables_of
from negative_binomial_screens import run_nb, write_screen

from crispyx._stats.nb_likelihood import Counts
from crispyx.de.comparison import Comparison
from crispyx.de.nb_passes import Passes
from crispyx.errors import CheckpointError

WIDTH = 3
N_UNITS = 5  # 14 genes
FIRST, SECOND = "genewise", "tested"
MODES: dict[str, dict[str, Any]] = {"defaults": {}, "pydeseq2": {"preset": "pydeseq2"}}


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    return write_screen(tmp_path / "screen.h5ad")


def run(screen: Path, name: str = "out", **options: Any) -> dict[str, np.ndarray]:
    options = {"chunk_size": WIDTH, "checkpoint_interval": 1} | options
    return tables_of(run_nb(screen, screen.with_name(f"{name}.h5ad"), **options).result_path)


def begun_units(
    monkeypatch: pytest.MonkeyPatch, stop: tuple[str, int] | None = None, error: Any = None
) -> dict[str, list[int]]:
    """Record the first gene of every block computed in each pass; raise before one of them."""
    begun: dict[str, list[int]] = {FIRST: [], SECOND: []}
    for name in begun:
        compute = getattr(Passes, name)

        def counted(
            self: Passes, block: Any, *, name: str = name, compute: Any = compute, **more: Any
        ) -> Any:
            if stop == (name, len(begun[name])):
                raise error
            begun[name].append(block.start)
            return compute(self, block, **more)

        monkeypatch.setattr(Passes, name, counted)
    return begun


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("stage", [FIRST, SECOND])
@pytest.mark.parametrize(
    ("unit", "error"), [(0, KeyboardInterrupt), (2, RuntimeError), (4, KeyboardInterrupt)]
)
def test_run_stopped_in_either_pass_resumes_to_the_same_bits(
    mode: dict, unit: int, stage: str, error: type[BaseException], screen: Path, monkeypatch
) -> None:
    expected = run(screen, "whole", **mode)
    with monkeypatch.context() as patch:
        begun_units(patch, (stage, unit), error)
        with pytest.raises(error):
            run(screen, **mode)
    assert not screen.with_name("out.h5ad").exists()
    begun = begun_units(monkeypatch)
    assert_same_bits(run(screen, resume=True, **mode), expected)
    missing = [k * WIDTH for k in range(unit, N_UNITS)]
    if stage == FIRST:
        assert begun == {FIRST: missing, SECOND: [k * WIDTH for k in range(N_UNITS)]}
    else:
        assert begun == {FIRST: [], SECOND: missing}
    assert sorted(path.name for path in screen.parent.iterdir()) == [
        "out.h5ad",
        "screen.h5ad",
        "whole.h5ad",
    ]


def test_run_stopped_while_the_result_is_written_only_writes_again(screen, monkeypatch) -> None:
    expected = run(screen, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Comparison, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(screen)
    begun = begun_units(monkeypatch)
    assert_same_bits(run(screen, resume=True), expected)
    assert begun == {FIRST: [], SECOND: []}


def test_resumed_run_keeps_the_blocks_of_either_pass(screen: Path, monkeypatch) -> None:
    expected = run(screen, "whole")
    with monkeypatch.context() as patch:
        begun_units(patch, (SECOND, 2), KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            run(screen)
    begun = begun_units(monkeypatch)
    assert_same_bits(run(screen, resume=True, chunk_size=5, n_jobs=2), expected)
    assert begun == {FIRST: [], SECOND: [6, 9, 12]}


def test_run_with_other_parameters_is_not_resumed(screen: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        begun_units(patch, (FIRST, 2), KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            run(screen)
    with pytest.raises(CheckpointError, match="parameters se_method 'sandwich' -> 'fisher'"):
        run(screen, resume=True, se_method="fisher")


def test_without_resume_both_passes_start_afresh(screen: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        begun_units(patch, (SECOND, 2), KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            run(screen)
    begun = begun_units(monkeypatch)
    run(screen, se_method="fisher")
    assert begun[FIRST][0] == begun[SECOND][0] == 0
    assert sorted(path.name for path in screen.parent.iterdir()) == ["out.h5ad", "screen.h5ad"]


@pytest.mark.parametrize("damage", ["progress", "tables"])
def test_a_damaged_first_pass_is_computed_again(damage: str, screen: Path, monkeypatch) -> None:
    expected = run(screen, "whole")
    with monkeypatch.context() as patch:
        begun_units(patch, (SECOND, 2), KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            run(screen)
    name = {"progress": "out.h5ad.genewise.progress.json", "tables": ".out.h5ad.genewise.work"}
    screen.with_name(name[damage]).write_bytes(b"")
    begun = begun_units(monkeypatch)
    assert_same_bits(run(screen, resume=True), expected)
    assert begun == {FIRST: [0, 3, 6, 9, 12], SECOND: [6, 9, 12]}


@pytest.mark.parametrize("interval", [None, 1])
def test_the_one_block_of_a_small_screen_is_grouped_once(interval, screen, monkeypatch) -> None:
    grouped: list[int] = []
    of_block = Counts.of_block.__func__

    def counted(cls: type, block: Any, *more: Any) -> Counts:
        grouped.append(block.n_major)
        return of_block(cls, block, *more)

    left: list[bool] = []
    tested = Passes.tested

    def looking(self: Passes, *given: Any, **more: Any) -> Any:
        left.append(screen.with_name("out.h5ad.genewise.progress.json").exists())
        return tested(self, *given, **more)

    expected = run(screen, "whole")
    monkeypatch.setattr(Counts, "of_block", classmethod(counted))
    monkeypatch.setattr(Passes, "tested", looking)
    assert_same_bits(run(screen, chunk_size=None, checkpoint_interval=interval), expected)
    assert grouped == [14]
    assert left == [interval is not None]  # the first pass is noted when that was asked for


def test_a_bound_on_dense_genes_narrows_the_blocks(screen: Path, monkeypatch) -> None:
    begun = begun_units(monkeypatch)
    run(screen, chunk_size=None, irls_batch_size=1)
    assert begun[FIRST] == begun[SECOND] == list(range(0, 14, 2))
