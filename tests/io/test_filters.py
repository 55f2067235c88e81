"""Files compressed by filters that HDF5 itself does not have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import crispyx as cx

# Importing hdf5plugin registers its filters for a whole process, so each side has one of its own.
COMPRESS = """
import shutil, sys, h5py, hdf5plugin
shutil.copy(sys.argv[1], sys.argv[2])
with h5py.File(sys.argv[2], "r+") as file:
    for name in ("X/data", "X/indices") if isinstance(file["X"], h5py.Group) else ("X",):
        values, notes = file[name][()], dict(file[name].attrs)
        del file[name]
        packed = file.create_dataset(name, data=values, **getattr(hdf5plugin, sys.argv[3])())
        packed.attrs.update(notes)
"""
COMPARE = """
import sys
import crispyx as cx
assert "hdf5plugin" not in sys.modules
cx.wilcoxon_test(sys.argv[1], groupby="group", output_path=sys.argv[2])
"""


def run(code: str, *arguments: object) -> None:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["Blosc", "Zstd"])
@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_file_of_a_plugin_filter_is_read_without_importing_it(
    tmp_path: Path, name: str, layout: str
) -> None:
    pytest.importorskip("hdf5plugin", reason="the filters come with the compression extra")
    values = sp.random(400, 30, density=0.3, format="csr", rng=np.random.default_rng(1))
    adata = ad.AnnData(values if layout == "csr" else values.toarray())
    adata.obs["group"] = ["control", "A"] * 200
    plain, packed = tmp_path / "plain.h5ad", tmp_path / "packed.h5ad"
    adata.write_h5ad(plain)
    run(COMPRESS, plain, packed, name)
    run(COMPARE, packed, tmp_path / "packed_result.h5ad")
    found = cx.de.load_result(tmp_path / "packed_result.h5ad")
    expected = cx.wilcoxon_test(plain, groupby="group", output_path=tmp_path / "result.h5ad")
    np.testing.assert_array_equal(found.pvalues, expected.pvalues)
