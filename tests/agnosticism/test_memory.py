"""A memory limit is kept, and never changes a bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import crispyx as cx

RUN = """
import sys, warnings
import crispyx as cx
warnings.simplefilter("ignore")
source, output, limit = sys.argv[1], sys.argv[2], sys.argv[3]
cx.settings.memory_limit_gb = None if limit == "none" else float(limit)
labels = {"perturbation_column": "perturbation", "control_label": "non-targeting"}
"""
# The peak of getrusage would be that of the process that started this one, if larger.
PEAK = """
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM")))
"""
OPERATIONS = {
    "wilcoxon": "cx.wilcoxon_test(source, output_path=output, **labels)",
    "t_test": "cx.t_test(source, output_path=output, **labels)",
    "normalize": "cx.normalize_total_log1p(source, output, verbose=False)",
    "quality control": "cx.quality_control_summary(source, output_path=output, **labels)",
}
LIMIT_GB = 0.5


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    simulated = cx.datasets.simulate_screen(
        folder, n_cells=100_000, n_genes=8_000, n_perturbations=1_000, with_labels=True, seed=9
    )
    return simulated.expression


def peak_gb(operation: str, source: Path, output: Path, limit: str) -> float:
    code = RUN + OPERATIONS[operation] + PEAK
    command = [sys.executable, "-c", code, str(source), str(output), limit]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout) * 1024 / 1e9


def assert_same_arrays(first: Path, second: Path) -> None:
    with h5py.File(first) as one, h5py.File(second) as other:
        names: list[str] = []
        one.visit(names.append)
        for name in names:
            if isinstance(one[name], h5py.Dataset):
                before, after = one[name][()], other[name][()]
                if isinstance(before, np.ndarray) and before.dtype != object:
                    assert before.tobytes() == after.tobytes(), name
                else:
                    assert np.array_equal(before, after), name


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_half_a_gigabyte_is_enough_for_a_hundred_thousand_cells_and_changes_no_bit(
    operation: str, screen: Path, tmp_path: Path
) -> None:
    free, tight = tmp_path / "free.h5ad", tmp_path / "tight.h5ad"
    peak_gb(operation, screen, free, "none")
    assert peak_gb(operation, screen, tight, str(LIMIT_GB)) < LIMIT_GB
    assert_same_arrays(free, tight)
