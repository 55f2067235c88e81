"""Ctrl-C, and two runs with one output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import crispyx as cx
from crispyx.errors import OutputBusyError

RUN = """
import sys, warnings
import crispyx as cx
warnings.simplefilter("ignore")
cx.wilcoxon_test(sys.argv[1], groupby="group", chunk_size=8, n_jobs=1, output_path=sys.argv[2])
"""


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(6)
    n_cells, n_genes = 20_000, 2_000
    adata = ad.AnnData(
        sp.random(n_cells, n_genes, density=0.15, format="csr", rng=rng, dtype=np.float32)
    )
    adata.obs["group"] = rng.choice(["control", *(f"P{k}" for k in range(100))], n_cells)
    path = tmp_path_factory.mktemp("interrupts") / "screen.h5ad"
    adata.write_h5ad(path)
    return path


def running(screen: Path, output: Path, sign: Path) -> subprocess.Popen[bytes]:
    """Start a run and return when it has got as far as writing ``sign``."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(screen), str(output)], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (sign.exists() and sign.stat().st_size):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return process


def test_ctrl_c_stops_within_a_second_and_keeps_a_checkpoint(
    screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    tally["SIGINT"] += 1
    output = tmp_path / "out.h5ad"
    process = running(screen, output, tmp_path / ".out.h5ad.work")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert time.monotonic() - began < 1
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert b"resume=True continues" in errors
    assert not output.exists()
    state = json.loads((tmp_path / "out.h5ad.progress.json").read_text())["state"]
    assert 0 < state["units"] < 250
    resumed = cx.wilcoxon_test(screen, groupby="group", output_path=output, resume=True)
    whole = cx.wilcoxon_test(screen, groupby="group", output_path=tmp_path / "whole.h5ad")
    np.testing.assert_array_equal(resumed.pvalues, whole.pvalues)


def test_second_writer_of_an_output_is_refused_by_name(
    screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    tally["two runs with one output"] += 1
    output = tmp_path / "out.h5ad"
    process = running(screen, output, tmp_path / ".out.h5ad.work")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(OutputBusyError, match=rf"out\.h5ad.*process {process.pid} on"):
            cx.wilcoxon_test(screen, groupby="group", output_path=output)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    process.communicate()
    assert process.returncode == 0
    assert cx.wilcoxon_test(screen, groupby="group", chunk_size=8, output_path=output).groups
    assert not list(tmp_path.glob(".*"))


def test_lock_of_a_killed_writer_does_not_bind(
    screen: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    tally["two runs with one output"] += 1
    output = tmp_path / "out.h5ad"
    process = running(screen, output, tmp_path / ".out.h5ad.work")
    process.kill()
    process.communicate()
    assert cx.wilcoxon_test(screen, groupby="group", output_path=output).groups
    assert not list(tmp_path.glob(".*"))
