"""A result is reloaded, replaced or protected by what its file says it is."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from layouts import COLUMN, assert_same_bits, in_memory, log_screen, tables_of, write_h5ad
from scipy import sparse as sp

import crispyx as cx
from crispyx.de import one_pass, t_test, wilcoxon_test
from crispyx.errors import CrispyxWarning, InputError, OutputBusyError, OutputExistsError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:in .* tests one arm"
)


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "screen.h5ad", *log_screen())


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Blocks computed since the start of the test."""
    blocks: list[int] = []
    compute = one_pass._tile

    def counted(block: Any, **options: Any) -> Any:
        blocks.append(block.start)
        return compute(block, **options)

    monkeypatch.setattr(one_pass, "_tile", counted)
    return blocks


def run(screen: Any, **options: Any) -> Any:
    return wilcoxon_test(screen, perturbation_column=COLUMN, **options)


def test_same_result_is_reloaded_without_computing(screen: Path, computed) -> None:
    first = run(screen)
    before = first.result_path.stat()
    n_blocks = len(computed)
    again = run(screen, chunk_size=1, n_jobs=1, memory_limit_gb=8, verbose=False)
    assert len(computed) == n_blocks
    assert again.result_path.stat() == before
    for name in ("statistics", "pvalues", "pvalues_adj", "effect_size", "u_statistics", "order"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert again.groups == first.groups


def test_path_wrapper_and_backed_data_of_one_file_share_their_result(screen, computed) -> None:
    import anndata

    run(screen)
    n_blocks = len(computed)
    for data in (str(screen), cx.AnnData(screen), anndata.read_h5ad(screen, backed="r")):
        run(data)
    assert len(computed) == n_blocks


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"tie_correct": False}, "parameters tie_correct True -> False"),
        ({"corr_method": "bonferroni"}, "corr_method 'benjamini-hochberg' -> 'bonferroni'"),
        ({"min_cells_pert": 3}, "min_cells_pert 2 -> 3"),
        ({"control_label": "MYC"}, "control_label 'control' -> 'MYC'"),
        ({"scanpy_format": True}, "scanpy_format False -> True"),
    ],
)
def test_other_parameters_compute_again_and_say_what_changed(
    options, change: str, screen: Path, computed
) -> None:
    run(screen)
    computed.clear()
    with pytest.warns(
        CrispyxWarning, match=rf"crispyx_wilcoxon\.h5ad' is computed again: .*{change}"
    ):
        run(screen, **options)
    assert computed == [0]


def test_other_engine_computes_again(screen: Path) -> None:
    run(screen)
    with (
        cx.use_engine("reference"),
        pytest.warns(CrispyxWarning, match="engine 'compiled' -> 'ref"),
    ):
        run(screen)


def test_changed_input_computes_again(screen: Path, computed) -> None:
    run(screen)
    values, labels = log_screen()
    write_h5ad(screen, values * 2, labels)
    computed.clear()
    with pytest.warns(CrispyxWarning, match="computed again: input mtime_ns"):
        run(screen)
    assert computed == [0]


def test_labels_changed_in_memory_compute_again(screen: Path, tmp_path: Path) -> None:
    import anndata

    backed = anndata.read_h5ad(screen, backed="r")
    assert "MYC" in run(backed).groups
    backed.obs[COLUMN] = backed.obs[COLUMN].cat.rename_categories({"MYC": "MYC-2"})
    with pytest.warns(CrispyxWarning, match="computed again: parameters labels"):
        assert "MYC-2" in run(backed).groups


def test_result_of_another_input_is_protected(screen: Path, computed) -> None:
    first = run(screen)
    other = write_h5ad(screen.with_name("other.h5ad"), *log_screen(seed=1))
    before = first.result_path.read_bytes()
    with pytest.raises(OutputExistsError) as error:
        run(other)
    for part in (
        str(screen),
        str(other),
        "data_name=",
        "output_dir=",
        "output_path=",
        "force=True",
    ):
        assert part in str(error.value)
    assert isinstance(error.value, FileExistsError)
    assert first.result_path.read_bytes() == before
    assert run(other, data_name="other").result_path.name == "crispyx_other_wilcoxon.h5ad"
    assert_same_bits(
        tables_of(run(other, force=True).result_path),
        tables_of(screen.with_name("crispyx_other_wilcoxon.h5ad")),
    )


def test_result_of_another_operation_is_protected(screen: Path) -> None:
    output = run(screen).result_path
    with pytest.raises(
        OutputExistsError, match=r"holds the wilcoxon result .* not the t_test result"
    ):
        t_test(screen, perturbation_column=COLUMN, output_path=output)


def test_result_of_data_in_memory_is_never_taken_for_that_of_other_data(tmp_path: Path) -> None:
    output = tmp_path / "result.h5ad"
    run(in_memory(*log_screen(), sp.csr_matrix), output_path=output)
    for _ in range(5):
        adata = in_memory(*log_screen(seed=1), sp.csr_matrix)
        with pytest.raises(OutputExistsError, match="of an AnnData in memory"):
            run(adata, output_path=output)
    run(adata, output_path=output, force=True)


def not_hdf5(path: Path) -> None:
    path.write_text("gene,p\n")


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def without_record(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["uns/crispyx"]


def odd_record(text: str) -> Any:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file["uns/crispyx/fingerprint"]
            file["uns/crispyx/fingerprint"] = text

    return damage


@pytest.mark.parametrize(
    "damage",
    [not_hdf5, cut_short, without_record, *map(odd_record, ["", "[]", "{}", '{"input": 3}', 7])],
)
def test_file_that_is_no_complete_result_is_protected(damage, screen: Path) -> None:
    output = run(screen).result_path
    expected = tables_of(output)
    damage(output)
    before = output.read_bytes()
    with pytest.raises(OutputExistsError, match=r"is not a complete crispyx result; .* force=True"):
        run(screen)
    assert output.read_bytes() == before
    assert_same_bits(tables_of(run(screen, force=True).result_path), expected)


@pytest.mark.parametrize("force", [False, True])
def test_input_is_never_replaced(screen: Path, force: bool) -> None:
    before = screen.read_bytes()
    with pytest.raises(InputError, match="is the input itself"):
        run(screen, output_path=screen, force=force)
    assert screen.read_bytes() == before


@pytest.mark.parametrize("force", [False, True])
def test_folder_is_never_replaced(screen: Path, force: bool) -> None:
    with pytest.raises(InputError, match="is a folder"):
        run(screen, output_path=screen.parent, force=force)


def test_second_run_with_one_output_is_refused_while_the_first_writes(screen: Path) -> None:
    lock = screen.with_name(".crispyx_wilcoxon.h5ad.lock")
    with lock.open("w") as handle:
        handle.write("process 12345 on node7")
        handle.flush()
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(OutputBusyError, match="is being written by process 12345 on node7"):
            run(screen)
    # A lock that nobody holds is no obstacle.
    run(screen)
    assert not lock.exists()


def test_full_disk_is_told_before_work_starts(screen: Path, computed, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(OSError, match=r"needs .* [kM]B but .* has 100 bytes free"):
        run(screen)
    assert computed == []
    assert [path.name for path in screen.parent.iterdir()] == [screen.name]


def test_folder_without_the_right_to_write_is_told_before_work_starts(
    screen: Path, computed, monkeypatch
) -> None:
    monkeypatch.setattr("crispyx._io.paths.os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot write into"):
        run(screen)
    assert computed == []


def test_record_says_what_made_the_result(screen: Path) -> None:
    with h5py.File(run(screen).result_path) as file:
        record = json.loads(file["uns/crispyx/fingerprint"].asstr()[()])
        assert file["uns/crispyx/version"].asstr()[()] == cx.__version__
    assert record["kind"] == "wilcoxon"
    assert record["input"]["path"] == str(screen)
    assert record["input"]["size"] == screen.stat().st_size
    assert record["parameters"]["control_label"] == "control"
