"""Plan, blocks, assembly: what jobs of a batch system do, one after another and out of order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from layouts import COLUMN, assert_same_bits, log_screen, tables_of, write_h5ad
from negative_binomial_screens import write_screen

import crispyx as cx
from crispyx._io.array_files import map_arrays, read_note, write_arrays
from crispyx._jobs import block_work
from crispyx._run.records import from_record, to_record
from crispyx.cli import main
from crispyx.de import BlockPlan, assemble_blocks, plan_blocks, run_block
from crispyx.errors import CheckpointError, CrispyxWarning, InputError, OutputExistsError

EXAMPLES = Path(__file__).parents[2] / "docs/examples"

pytestmark = pytest.mark.filterwarnings("ignore::crispyx.errors.CrispyxWarning")


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "screen.h5ad", *log_screen())


def planned(screen: Path, method: str = "wilcoxon", **options: Any) -> BlockPlan:
    options = {"output_path": screen.with_name("out.h5ad"), "chunk_size": 4} | options
    return plan_blocks(screen, method, perturbation_column=COLUMN, **options)


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_blocks_in_any_order_and_twice_give_the_same_bits(layout: str, tmp_path: Path) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *log_screen(), layout=layout)
    plan = planned(screen)
    assert plan.passes == {"wilcoxon": range(4)}
    for block in (2, 0, 3, 1, 2):
        run_block(plan.folder, block)
    result = assemble_blocks(plan.folder)
    assert result.result_path == plan.output
    cx.wilcoxon_test(screen, perturbation_column=COLUMN, output_path=tmp_path / "here.h5ad")
    assert_same_bits(tables_of(plan.output), tables_of(tmp_path / "here.h5ad"))
    assert not plan.folder.exists()


def test_block_that_is_there_is_left_as_it_is(screen: Path) -> None:
    plan = planned(screen)
    first = run_block(plan.folder, 1).stat()
    again = run_block(plan.folder, 1).stat()
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_planning_again_keeps_the_blocks_there_are_unless_forced(screen: Path) -> None:
    plan = planned(screen)
    kept = run_block(plan.folder, 1)
    assert planned(screen) == plan
    assert kept.exists()
    planned(screen, force=True)
    assert not kept.exists()


def test_missing_blocks_are_named(screen: Path) -> None:
    plan = planned(screen)
    run_block(plan.folder, 1)
    with pytest.raises(CheckpointError, match=r"3 of 4 blocks are missing in .*: 0, 2, 3; run"):
        assemble_blocks(plan.folder)
    assert not plan.output.exists()


def test_second_pass_waits_for_all_blocks_of_the_first(tmp_path: Path) -> None:
    plan = planned(write_screen(tmp_path / "screen.h5ad"), "nb_glm")
    assert list(plan.passes) == ["dispersions", "tests"]
    first, second = plan.passes.values()
    for block in first[:-1]:
        run_block(plan.folder, block)
    with pytest.raises(CheckpointError, match=f"1 of {len(first)} blocks are missing.*: 3; run"):
        run_block(plan.folder, second[0])


def test_block_of_another_manifest_is_refused_by_name(screen: Path, tmp_path: Path) -> None:
    plan = planned(screen)
    other = planned(screen, output_path=tmp_path / "other.h5ad", tie_correct=False)
    for block in range(4):
        run_block(plan.folder, block)
    foreign = run_block(other.folder, 2)
    shutil.copy(foreign, plan.folder / "tiles")
    with pytest.raises(CheckpointError, match=r"block 2 in .*000002\.tile' belongs to another"):
        assemble_blocks(plan.folder)
    with pytest.raises(CheckpointError, match="block 2 in"):
        run_block(plan.folder, 2)


def test_block_under_the_number_of_another_is_refused(screen: Path) -> None:
    plan = planned(screen)
    tile = run_block(plan.folder, 1)
    shutil.copy(tile, tile.with_name("000003.tile"))
    with pytest.raises(CheckpointError, match=r"block 3 in .* belongs to another"):
        run_block(plan.folder, 3)


def test_block_that_was_cut_short_is_computed_again(screen: Path) -> None:
    plan = planned(screen)
    tile = run_block(plan.folder, 1)
    whole = tile.read_bytes()
    tile.write_bytes(whole[:-8])
    assert run_block(plan.folder, 1).read_bytes() == whole


def test_input_that_was_changed_is_refused_by_every_step(screen: Path) -> None:
    plan = planned(screen)
    run_block(plan.folder, 0)
    with h5py.File(screen, "r+") as file:
        file["X/data"][0] += 1
    os.utime(screen, ns=(1, 1))
    with pytest.raises(InputError, match=r"not any more what the blocks in .* mtime_ns"):
        run_block(plan.folder, 1)
    with pytest.raises(CheckpointError, match="belongs to another run: input mtime_ns"):
        assemble_blocks(plan.folder)
    with pytest.raises(CheckpointError, match="belongs to another run: input mtime_ns"):
        planned(screen)


def test_blocks_of_another_version_are_refused(screen: Path, monkeypatch) -> None:
    plan = planned(screen)
    monkeypatch.setattr(block_work, "__version__", "9.9")
    with pytest.raises(CheckpointError, match=r"planned by crispyx .* and this is 9\.9"):
        run_block(plan.folder, 0)


def test_plan_for_a_result_that_is_there_says_so(screen: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5ad"
    cx.wilcoxon_test(screen, perturbation_column=COLUMN, output_path=output)
    with pytest.raises(OutputExistsError, match="holds this very result"):
        planned(screen)


@pytest.mark.parametrize("block", [-1, 4])
def test_block_that_is_not_in_the_plan_is_refused(block: int, screen: Path) -> None:
    with pytest.raises(InputError, match=f"block is {block}; .* has the blocks 0 to 3"):
        run_block(planned(screen).folder, block)


def test_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    for step in (assemble_blocks, lambda folder: run_block(folder, 0)):
        with pytest.raises(CheckpointError, match="has no complete manifest"):
            step(tmp_path)


def test_blocks_have_about_as_many_non_zeros_each(tmp_path: Path, monkeypatch) -> None:
    from crispyx.de import elsewhere

    monkeypatch.setattr(elsewhere, "BLOCK_VALUES", (400, 400))
    values = np.ones((100, 60))
    values[:, 20:] = np.arange(100)[:, None] % 10 == 0  # a tenth of the cells
    screen = write_h5ad(tmp_path / "screen.h5ad", values, ["control", "A"] * 50)
    plan = planned(screen, chunk_size=None)
    blocks = plan.passes["wilcoxon"]
    widths = [map_arrays(run_block(plan.folder, b))["z_score"].shape[1] for b in blocks]
    assert widths[:5] == [4] * 5
    assert max(widths[5:]) == 40


@pytest.mark.parametrize(
    "value", [(1.5, float("inf"), "a", None, True), {"a": [1, (2,)]}, Path("x")]
)
def test_records_come_back_as_they_were(value: Any) -> None:
    record = json.loads(json.dumps(to_record(value, {})))
    assert from_record(record, {}) == value


@pytest.mark.parametrize("name", ["os:system", "crispyx.errors:InputError", "crispyx.de:t_test"])
def test_records_name_no_code(name: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(name)):
        from_record({"class": name, "fields": {}}, {})


def test_arrays_come_back_from_their_file(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.empty((0, 4), dtype="u1"), "c": np.ones(3)}
    write_arrays(tmp_path / "x", {"key": 1}, arrays)
    assert read_note(tmp_path / "x") == {"key": 1}
    found = map_arrays(tmp_path / "x")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def shell(*command: str) -> dict[str, Any]:
    outcome = CliRunner().invoke(main, [*command, "--json"])
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


@pytest.mark.parametrize("method", ["wilcoxon", "t-test", "nb-glm"])
def test_steps_from_a_shell_give_the_bits_of_one_command(method: str, tmp_path: Path) -> None:
    screen, here = write_screen(tmp_path / "screen.h5ad"), tmp_path / "here.h5ad"
    labels = ("--perturbation-column", COLUMN)
    plan = shell("de", "plan", method, str(screen), *labels, "-o", str(tmp_path / "there.h5ad"))
    for block in range(plan["n_blocks"]):
        shell("de", "run-block", plan["folder"], "--block", str(block), "--threads", "1")
    found = shell("de", "assemble", plan["folder"])
    expected = shell("de", method, str(screen), *labels, "-o", str(here))
    assert_same_bits(tables_of(Path(found["output"])), tables_of(here))
    assert found["hits"] == expected["hits"]


SBATCH = """#!{python}
import os, subprocess, sys
values = dict(zip(sys.argv[1:], sys.argv[2:]))
array = [a.split("=")[1] for a in sys.argv if a.startswith("--array=")]
first, last = map(int, array[0].split("-")) if array else (0, 0)
for task in range(first, last + 1):
    known = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task)}}
    subprocess.run(["bash", "-c", values["--wrap"]], env=known, check=True, stdout=2)
print(first + 1)
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `srun` and `sbatch` that run jobs here and at once, and `crispyx`."""
    tools = tmp_path / "bin"
    tools.mkdir()
    call = f'#!/bin/bash\nexec "{sys.executable}" -W ignore -m crispyx.cli "$@"\n'
    scripts = {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "crispyx": call}
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tools / "python").symlink_to(sys.executable)
    root = str(Path(cx.__file__).parents[1])
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    return tools


def test_slurm_example_runs(cluster: Path, tmp_path: Path) -> None:
    screen, result = write_screen(tmp_path / "screen.h5ad"), tmp_path / "result.h5ad"
    command = ["bash", str(EXAMPLES / "slurm_nb_glm.sh"), str(screen), str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    here = tmp_path / "here.h5ad"
    cx.nb_glm_test(screen, perturbation_column=COLUMN, output_path=here)
    assert_same_bits(tables_of(result), tables_of(here))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="Snakemake is not installed")
def test_snakemake_runs_its_example(cluster: Path, tmp_path: Path) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    text = (EXAMPLES / "Snakefile").read_text(encoding="utf-8")
    (tmp_path / "Snakefile").write_text(text.replace("-o result", "--chunk-size 7 -o result"))
    command = ["snakemake", "--cores", "2", "result.h5ad"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "blocks").glob("*.done"))) == 4  # two in each of two passes
    here = tmp_path / "here.h5ad"
    cx.nb_glm_test(screen, perturbation_column=COLUMN, output_path=here)
    assert_same_bits(tables_of(tmp_path / "result.h5ad"), tables_of(here))


@pytest.mark.parametrize("name", ["Snakefile", "wilcoxon.nf"])
def test_commands_of_other_examples_run(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_screen(tmp_path / "screen.h5ad")
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    plan, block, assemble = re.findall(r'(?:shell|script): "crispyx (.*)"', text)
    words = {
        "{input}": "screen.h5ad",
        "${params.screen}": "screen.h5ad",
        "${params.result}": "result.h5ad",
        "{threads}": "1",
        "${task.cpus}": "1",
    }

    def run(command: str, number: int = 0) -> str:
        for word, value in words.items():
            command = command.replace(word, value)
        command = re.sub(r"\{wildcards.block\}|\$\{number\}", str(number), command)
        outcome = CliRunner().invoke(main, command.partition(" > ")[0].split())
        assert outcome.exit_code == 0, outcome.output
        return outcome.stdout

    for number in range(json.loads(run(plan))["n_blocks"]):
        run(block, number)
    run(assemble)
    assert (tmp_path / "result.h5ad").exists()


def test_dask_in_a_shell_needs_an_address(screen: Path) -> None:
    command = ["de", "wilcoxon", str(screen), "--perturbation-column", COLUMN]
    for options in (["--executor", "dask"], ["--scheduler", "tcp://127.0.0.1:1"]):
        outcome = CliRunner().invoke(main, [*command, *options])
        assert outcome.exit_code == 2
        assert "need each other" in outcome.output


def test_plans_from_a_shell_find_the_matrix_that_is_kept(tmp_path: Path) -> None:
    screen, stages = write_screen(tmp_path / "screen.h5ad"), tmp_path / "stages"
    stages.mkdir()
    chosen = [str(screen), "--perturbation-column", COLUMN, "--stage-dir", str(stages)]
    states = []
    for method in ("t-test", "nb-glm"):
        output = str(tmp_path / f"{method}.h5ad")
        outcome = CliRunner().invoke(main, ["de", "plan", method, *chosen, "-o", output])
        assert outcome.exit_code == 0, outcome.output
        states.append({path: path.stat() for path in stages.glob("screen.h5ad-*/*")})
    assert states[0]
    assert states[1] == states[0]
    assert cx.settings.stage_dir is None


def test_plan_is_read_with_the_warnings_of_the_data(screen: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CrispyxWarning)
        planned(screen)
    assert any("have no label" in str(one.message) for one in caught)
