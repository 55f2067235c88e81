"""A run killed at any moment leaves nothing wrong, and the next one gives the same bits."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

PREAMBLE = """
import sys, warnings
import crispyx as cx
from crispyx._jobs import checkpoint
warnings.simplefilter("ignore")
checkpoint.MIN_SECONDS = 0.0  # every block is a moment to resume from
source, output, resume = sys.argv[1], sys.argv[2], sys.argv[3] == "resume"
"""
OPERATIONS = {
    "wilcoxon": "cx.wilcoxon_test(source, groupby='group', chunk_size=40, checkpoint_interval=1,"
    " output_path=output, resume=resume)",
    "t_test": "cx.t_test(source, groupby='group', checkpoint_interval=1, memory_limit_gb=0.25,"
    " output_path=output, resume=resume)",
    "nb_glm": "cx.nb_glm_test(source, groupby='group', chunk_size=100, checkpoint_interval=1,"
    " output_path=output, resume=resume)",
    "normalize": "cx.normalize_total_log1p(source, output, chunk_size=200, verbose=False,"
    " resume=resume)",
    "quality control": "cx.quality_control_summary(source, perturbation_column='group',"
    " min_genes=5, min_cells_per_gene=5, chunk_size=200, force_streaming=True,"
    " cache_mode='none', output_path=output, resume=resume)",
}


@dataclass(frozen=True)
class Operation:
    """One long operation, its input, its output undisturbed and how long that took."""

    code: str
    source: Path
    expected: dict[str, np.ndarray]
    seconds: float

    def start(self, output: Path, mode: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PREAMBLE + self.code, str(self.source), str(output), mode]
        return subprocess.Popen(command, stderr=subprocess.PIPE)

    def run(self, output: Path, mode: str) -> None:
        process = self.start(output, mode)
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()


def contents(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, node: (
                found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
        )
    return found


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.asarray(values).tobytes() == np.asarray(found[name]).tobytes() or (
            np.asarray(values).dtype == object and np.array_equal(values, found[name])
        ), name


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    n_cells, n_genes = 6000, 900
    counts = sp.random(n_cells, n_genes, density=0.15, format="csr", rng=rng, dtype=np.float32)
    counts.data = np.ceil(counts.data * 20)
    adata = ad.AnnData(counts)
    adata.obs["group"] = rng.choice(["control", *(f"P{k}" for k in range(60))], n_cells)
    path = tmp_path_factory.mktemp("kills") / "screen.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module", params=OPERATIONS)
def operation(request: pytest.FixtureRequest, screen: Path, tmp_path_factory) -> Operation:
    output = tmp_path_factory.mktemp("undisturbed") / "out.h5ad"
    operation = Operation(OPERATIONS[request.param], screen, {}, 0.0)
    began = time.monotonic()
    operation.run(output, "afresh")
    return Operation(operation.code, screen, contents(output), time.monotonic() - began)


def kill_at_random(operation: Operation, folder: Path, n_kills: int, tally: Counter[str]) -> int:
    """Kill runs at random moments; return how many ended before the kill."""
    moments = random.Random(len(operation.code))
    output = folder / "out.h5ad"
    n_complete = 0
    for attempt in range(n_kills):
        mode = "resume" if attempt % 3 else "afresh"
        process = operation.start(output, mode)
        time.sleep(moments.uniform(0.2, 1.0) * operation.seconds)
        process.kill()
        _, errors = process.communicate()
        # The run may have ended just before; it must not have failed by itself.
        assert process.returncode in (0, -9), errors.decode()
        if output.exists():
            assert_same(contents(output), operation.expected)
            output.unlink()
            n_complete += 1
    tally["SIGKILL at a random moment"] += n_kills
    operation.run(output, "resume")
    assert_same(contents(output), operation.expected)
    assert [path.name for path in folder.iterdir()] == ["out.h5ad"]
    return n_complete


def test_killed_runs_leave_nothing_wrong_and_continue(
    operation: Operation, tmp_path: Path, tally: Counter[str]
) -> None:
    kill_at_random(operation, tmp_path, 4, tally)


@pytest.mark.slow
def test_fifty_kills_of_each_operation_leave_nothing_wrong(
    operation: Operation, tmp_path: Path, tally: Counter[str], cases: Any
) -> None:
    n_kills = len(cases(range(55)))
    # The others were killed at work.
    assert kill_at_random(operation, tmp_path, n_kills, tally) <= 0.85 * n_kills
