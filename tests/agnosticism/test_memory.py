"""A memory limit is kept, and never changes a bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

import crispyx as cx

RUN = """
import sys, warnings
from operator import add
import crispyx as cx
warnings.simplefilter("ignore")
source, output, limit = sys.argv[1], sys.argv[2], sys.argv[3]
cx.settings.memory_limit_gb = None if limit == "none" else float(limit)
control = "non-targeting"
labels = {"perturbation_column": "perturbation", "control_label": control}
kept = {"chunk_size": 500, "convert_to_dense": False}


def masks(path):
    import numpy as np

    n_cells, n_genes = len(cx.load_obs(path)), len(cx.load_var(path))
    return {"cell_mask": np.arange(n_cells) % 3 > 0, "gene_mask": np.arange(n_genes) % 2 > 0}


def few(path):
    found = cx.load_obs(path)["perturbation"].cat.categories
    return [label for label in found if label != control][:50]
"""
# The peak of getrusage would be that of the process that started this one, if larger.
PEAK = """
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM")))
"""
LIMIT_GB = 0.5
# One row for each streaming function: what is run; every other one writes `output`.
OPERATIONS = {
    "wilcoxon": "cx.wilcoxon_test(source, output_path=output, **labels)",
    "t_test": "cx.t_test(source, output_path=output, **labels)",
    "normalize": "cx.normalize_total_log1p(source, output, verbose=False)",
    "quality control": "cx.quality_control_summary(source, output_path=output, **labels)",
    "to columns": "cx.data.convert_to_csc(source, output_path=output, verbose=False)",
    "sort": "cx.data.sort_by_perturbation(source, 'perturbation', control, output_path=output)",
    "subset": "cx.data.write_filtered_subset(source, **masks(source), output_path=output)",
    "sums": "cx.pb.aggregate(source, groupby='perturbation', method='sum', output_path=output)",
    "average log": "cx.pb.average_log_expression(source, output_path=output, **labels)",
    "pseudobulk": "cx.pb.pseudobulk(source, output_path=output, **labels)",
    "effects": "cx.pb.effects(source, output_path=output, **labels)",
    "normalized effects": "cx.pb.normalized_effects(source, output_path=output, **labels)",
    "cells": "cx.pp.filter_cells(source)",
    "genes": "cx.pp.filter_genes(source)",
    "rows": "sum(chunk.nnz for _, chunk in cx.data.iter_matrix_chunks(source, **kept))",
    "columns": "sum(chunk.nnz for _, chunk in cx.data.iter_matrix_chunks(source, axis=1, **kept))",
    "subsample": "cx.pp.subsample(source, fraction=0.5, output_path=output)",
    "downsample": "cx.pp.downsample_counts(source, quantile=0.2, output_path=output)",
    "concatenate": "cx.pp.concat_h5ad([source] * 2, output, keys=['a', 'b'])",
    "compress": "cx.data.compress_h5ad(source, output, level=1)",
    "residual effects": "cx.tl.residual_effects(source, perturbations=few(source),"
    " output_path=output, **labels)",
    "calibration": "cx.tl.calibration(source, methods=('t_test',), n_splits=1, n_groups=2,"
    " output_path=output, **labels)",
    "variable genes": "cx.pp.highly_variable_genes(source, inplace=False, **labels)",
    "sums of blocks": "cx.tl.batch_process(source, lambda block: block.X.sum(), add)",
    "to a zarr store": "cx.normalize_total_log1p(source, output + '.zarr', verbose=False)",
}
WRITE_NOTHING = (
    "cells",
    "genes",
    "rows",
    "columns",
    "variable genes",
    "sums of blocks",
    "to a zarr store",
)
SOON = ("sums", "genes", "subset")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred thousand cells, simulated."""
    folder = tmp_path_factory.mktemp("large")
    simulated = cx.datasets.simulate_screen(
        folder, n_cells=100_000, n_genes=8_000, n_perturbations=1_000, with_labels=True, seed=9
    )
    return simulated.expression


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand cells sixty times over: 60 million values, 720 MB in memory."""
    path = tmp_path_factory.mktemp("repeated") / "screen.h5ad"
    rng = np.random.default_rng(0)
    n_times, n_cells, n_genes, per_cell = 60, 1_000, 2_500, 1_000
    labels = rng.choice(["non-targeting", "A", "B"], n_cells * n_times)
    adata = anndata.AnnData(
        obs=pd.DataFrame(
            {"perturbation": pd.Categorical(labels)},
            index=[f"cell{i}" for i in range(len(labels))],
        ),
        var=pd.DataFrame(index=[f"gene{j}" for j in range(n_genes)]),
    )
    adata.write_h5ad(path)
    indices = np.concatenate(
        [np.sort(rng.choice(n_genes, per_cell, replace=False)) for _ in range(n_cells)]
    ).astype(np.int64)
    values = rng.integers(1, 9, len(indices)).astype(np.float32)
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        node = file.create_group("X")
        node.attrs["encoding-type"], node.attrs["encoding-version"] = "csr_matrix", "0.1.0"
        node.attrs["shape"] = np.array([n_cells * n_times, n_genes])
        node["indptr"] = np.arange(n_cells * n_times + 1, dtype=np.int64) * per_cell
        for name, block in (("data", values), ("indices", indices)):
            made = node.create_dataset(name, shape=(n_times * len(block),), dtype=block.dtype)
            for start in range(0, len(made), len(block)):
                made[start : start + len(block)] = block
    return path


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


ON_LINUX = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
)


@ON_LINUX
@pytest.mark.parametrize("operation", SOON)
def test_a_matrix_larger_than_the_limit_stays_on_disk(
    operation: str, repeated: Path, tmp_path: Path
) -> None:
    assert peak_gb(operation, repeated, tmp_path / "o.h5ad", str(LIMIT_GB)) < LIMIT_GB


@ON_LINUX
@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_half_a_gigabyte_is_enough_for_a_hundred_thousand_cells_and_changes_no_bit(
    operation: str, screen: Path, tmp_path: Path
) -> None:
    free, tight = tmp_path / "free.h5ad", tmp_path / "tight.h5ad"
    if operation not in WRITE_NOTHING:
        peak_gb(operation, screen, free, "none")
    assert peak_gb(operation, screen, tight, str(LIMIT_GB)) < LIMIT_GB
    if operation not in WRITE_NOTHING:
        assert_same_arrays(free, tight)
