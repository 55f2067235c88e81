"""New matrices are continued where an interrupted run stopped."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from crispyx._io.placed import MatrixForm
from crispyx._jobs import checkpoint
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.matrix_job import write_matrix_file
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.fingerprint import fingerprint
from crispyx.errors import CheckpointError, InputError

N_ROWS, N_COLUMNS = 23, 7
MATRIX = sp.random(N_ROWS, N_COLUMNS, density=0.4, format="csr", dtype=np.float32, rng=3)


@pytest.fixture(autouse=True)
def every_block_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MIN_SECONDS", 0.0)


def form_of(layout: str) -> MatrixForm:
    return MatrixForm(layout, (N_ROWS, N_COLUMNS), MATRIX.nnz, np.dtype(np.float32))


class Blocks:
    """Blocks of the stored axis; interrupted before one of them when asked."""

    def __init__(self, layout: str, width: int, interrupt_at: int | None = None) -> None:
        self.matrix = MATRIX.tocsc() if layout == "csc" else MATRIX
        self.width, self.interrupt_at = width, interrupt_at
        self.first: int | None = None

    def __call__(self, first: int):
        self.first = first
        n_major = len(self.matrix.indptr) - 1
        for start in range(first, n_major, self.width):
            if self.interrupt_at is not None and start >= self.interrupt_at:
                raise KeyboardInterrupt
            stop = min(start + self.width, n_major)
            begin, end = self.matrix.indptr[start], self.matrix.indptr[stop]
            yield CompressedBlock(
                start,
                stop,
                self.matrix.data[begin:end],
                self.matrix.indices[begin:end].astype(np.int32),
                (self.matrix.indptr[start : stop + 1] - begin).astype(np.int64),
            )


def write(output: Path, layout: str, blocks: Blocks, *, resume: bool, parameter: int = 0) -> None:
    def fill(file) -> None:
        import pandas as pd
        from anndata.io import write_elem

        write_elem(file, "obs", pd.DataFrame(index=[f"c{i}" for i in range(N_ROWS)]))
        write_elem(file, "var", pd.DataFrame(index=[f"g{i}" for i in range(N_COLUMNS)]))

    identity = fingerprint("test", {"path": "x"}, {"parameter": parameter})
    progress = Checkpoint(output, identity, 5, None)
    write_matrix_file(output, form_of(layout), blocks, fill, progress, resume=resume)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("interrupt_at", [0, 1, 4, 6])
def test_resumed_file_equals_the_matrix_and_starts_where_it_stopped(
    tmp_path: Path, layout: str, interrupt_at: int
) -> None:
    output = tmp_path / "x.h5ad"
    with pytest.raises(KeyboardInterrupt):
        write(output, layout, Blocks(layout, 2, interrupt_at), resume=False)
    assert not output.exists()
    rest = Blocks(layout, 3)
    write(output, layout, rest, resume=True)
    assert rest.first == -(-interrupt_at // 2) * 2
    found = ad.read_h5ad(output).X
    np.testing.assert_array_equal(found if layout == "dense" else found.toarray(), MATRIX.toarray())
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5ad"]


def test_run_without_resume_starts_afresh(tmp_path: Path) -> None:
    output = tmp_path / "x.h5ad"
    with pytest.raises(KeyboardInterrupt):
        write(output, "csr", Blocks("csr", 2, 8), resume=False)
    again = Blocks("csr", 2)
    write(output, "csr", again, resume=False)
    assert again.first == 0


def test_checkpoint_of_other_parameters_is_refused_with_the_reason(tmp_path: Path) -> None:
    output = tmp_path / "x.h5ad"
    with pytest.raises(KeyboardInterrupt):
        write(output, "csr", Blocks("csr", 2, 8), resume=False)
    with pytest.raises(CheckpointError, match=r"parameters parameter 0 -> 1.*resume=False"):
        write(output, "csr", Blocks("csr", 2), resume=True, parameter=1)
    write(output, "csr", Blocks("csr", 2), resume=True)


@pytest.mark.parametrize("surplus", [-1, 1])
def test_wrong_number_of_values_is_an_error_that_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surplus: int
) -> None:
    wrong = MatrixForm("csr", (N_ROWS, N_COLUMNS), MATRIX.nnz + surplus, np.dtype(np.float32))
    monkeypatch.setitem(globals(), "form_of", lambda layout: wrong)
    with pytest.raises(InputError, match=rf"{MATRIX.nnz + surplus} were announced"):
        write(tmp_path / "x.h5ad", "csr", Blocks("csr", 4), resume=False)
    assert not list(tmp_path.iterdir())
