"""A run that is killed while it writes or changes a zarr store loses nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anndata
import layouts
import pytest
import scipy.sparse as sp
import slots

import crispyx as cx

pytest.importorskip("zarr")

# Every way in which stores touch the disk, counted; the process dies before the one it is told.
RUN = """
import os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import crispyx as cx
from crispyx._io import folders

source, output, moment = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
count = 0


def watched(home, name):
    inner = getattr(home, name)

    def touch(*given, **named):
        global count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*given, **named)

    setattr(home, name, touch)


for name in ("fsync", "replace", "rename", "link", "unlink", "rmdir"):
    watched(os, name)
watched(folders, "exchange")
if source.suffix == ".h5ad":
    cx.normalize_total_log1p(source, output, chunk_size=9, verbose=False, resume=True)
else:
    cx.data.write_obs(output, cx.load_obs(output).assign(added=1))
print(count)
"""
SHARES = [
    pytest.param(share, marks=pytest.mark.slow if share not in (0.9,) else ())
    for share in (0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99, 1.0)
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    adata = layouts.in_memory(*layouts.count_screen(), sp.csr_matrix)
    adata.obsm["place"] = adata.X[:, :2].toarray()
    adata.write_h5ad(folder / "screen.h5ad")
    cx.data.convert_to_csr(
        folder / "screen.h5ad", output_path=folder / "screen.zarr", verbose=False
    )
    return folder


def run(source: Path, output: Path, moment: int) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(Path(cx.__file__).parents[1]), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", RUN, str(source), str(output), str(moment)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def killed(source: Path, output: Path, trial: Path, share: float) -> None:
    """Let the operation die at a share of its touches of the disk, found by a run of its own."""
    undisturbed = run(source, trial, 0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    total = int(undisturbed.stdout)
    assert total > 20
    died = run(source, output, max(1, round(share * total)))
    assert died.returncode == -signal.SIGKILL, died.stderr


@pytest.mark.parametrize("share", SHARES)
def test_store_that_is_written_appears_complete_or_not_at_all(
    share: float, inputs: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    (tmp_path / "trial").mkdir()
    trial, output = tmp_path / "trial/n.zarr", tmp_path / "n.zarr"
    source = inputs / "screen.h5ad"
    killed(source, output, trial, share)
    expected = anndata.read_zarr(trial)
    if output.exists():
        assert_same(anndata.read_zarr(output), expected)
    again = run(source, output, 0)
    assert again.returncode == 0, again.stderr
    assert_same(anndata.read_zarr(output), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.zarr", "trial"]
    tally["SIGKILL at a touch of the disk"] += 1


@pytest.mark.parametrize("share", SHARES)
def test_store_that_is_changed_is_as_before_or_as_after(
    share: float, inputs: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    (tmp_path / "trial").mkdir()
    trial, output = tmp_path / "trial/s.zarr", tmp_path / "s.zarr"
    for place in (trial, output):
        shutil.copytree(inputs / "screen.zarr", place)
    before = anndata.read_zarr(output)
    killed(inputs / "screen.zarr", output, trial, share)
    after = anndata.read_zarr(trial)
    assert "added" in after.obs
    found = anndata.read_zarr(output)
    assert_same(found, after if "added" in found.obs else before)
    assert run(inputs / "screen.zarr", output, 0).returncode == 0
    assert_same(anndata.read_zarr(output), after)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.zarr", "trial"]
    tally["SIGKILL at a touch of the disk"] += 1


def assert_same(found: anndata.AnnData, expected: anndata.AnnData) -> None:
    slots.assert_same_slots(found, expected)
    slots.assert_same_value(found.X, expected.X, "X")
    assert layouts.COLUMN in found.obs
