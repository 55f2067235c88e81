"""A user's own file is changed wholly or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from layouts import log_screen, write_h5ad

from crispyx._io.edits import replace_elements
from crispyx._io.in_place import changed_in_place
from crispyx._io.journal import journal_path, recover
from crispyx._io.source import open_file
from crispyx.errors import InputError, OutputBusyError

RNG = np.random.default_rng(3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "screen.h5ad", *log_screen())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(path: Path) -> list[str]:
    return sorted(other.name for other in path.parent.iterdir() if other != path)


def test_entries_are_added_and_everything_else_stays(path: Path) -> None:
    before = anndata.read_h5ad(path)
    table = RNG.normal(size=(before.n_obs, 7)).astype(np.float32)
    params = {"variance": np.arange(3.0), "note": "text", "nested": {"n": 3}}
    replace_elements(path, {"obsm/X_pca": table, "uns/pca": params})
    after = anndata.read_h5ad(path)
    np.testing.assert_array_equal(after.obsm["X_pca"], table)
    np.testing.assert_array_equal(after.uns["pca"]["variance"], params["variance"])
    assert after.uns["pca"]["nested"]["n"] == 3
    pd.testing.assert_frame_equal(after.obs, before.obs)
    assert (after.X != before.X).nnz == 0
    assert leftovers(path) == []


def test_an_entry_is_replaced_again_and_again(path: Path) -> None:
    n_obs = anndata.read_h5ad(path, backed="r").n_obs
    for n in (3, 50, 1, 20):
        table = RNG.normal(size=(n_obs, n))
        replace_elements(path, {"obsm/X_pca": table})
        np.testing.assert_array_equal(anndata.read_h5ad(path).obsm["X_pca"], table)


def test_an_error_leaves_the_bytes_as_they_were(path: Path) -> None:
    before = digest(path)

    def change() -> None:
        with changed_in_place(path) as file:
            file.create_dataset("obsm/X_pca", data=np.ones(100_000))
            del file["X"]
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        change()
    assert digest(path) == before
    assert leftovers(path) == []


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from crispyx._io import edits, in_place, journal

    path, moment = Path(sys.argv[1]), sys.argv[2]
    die = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
    if moment == "before the journal":
        in_place.apply_pages = die
    elif moment == "while the journal is written":
        journal.atomic_path = die
    elif moment == "before the pages":
        journal._carry_out = die
    elif moment == "between the pages":
        write, count = os.pwrite, []
        def pwrite(*args):
            count.append(1)
            if journal.journal_path(path).exists() and len(count) % 2:
                die()
            return write(*args)
        os.pwrite = pwrite
    elif moment == "before the journal goes":
        unlink = Path.unlink
        Path.unlink = lambda self, *args, **kwargs: (
            die() if self == journal.journal_path(path) else unlink(self, *args, **kwargs)
        )
    edits.replace_elements(path, {"obsm/X_pca": np.ones((int(sys.argv[3]), 40))})
"""


@pytest.mark.parametrize(
    ("moment", "changed"),
    [
        ("before the journal", False),
        ("while the journal is written", False),
        ("before the pages", True),
        ("between the pages", True),
        ("before the journal goes", True),
    ],
)
def test_a_kill_leaves_the_old_file_or_a_journal_that_completes_it(
    path: Path, moment: str, changed: bool
) -> None:
    before = anndata.read_h5ad(path)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), path, moment, str(before.n_obs)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -9
    assert journal_path(path).exists() == changed
    with open_file(path) as file:
        assert ("obsm/X_pca" in file) == changed
        np.testing.assert_array_equal(file["X/data"][:], before.X.data)
    assert not journal_path(path).exists()
    after = anndata.read_h5ad(path)
    assert (after.X != before.X).nnz == 0
    replace_elements(path, {"obsm/X_pca": np.zeros((before.n_obs, 2))})
    assert anndata.read_h5ad(path).obsm["X_pca"].shape == (before.n_obs, 2)


def test_a_journal_is_carried_out_as_often_as_needed(path: Path, tmp_path: Path) -> None:
    import crispyx._io.journal as journal

    n_obs = anndata.read_h5ad(path, backed="r").n_obs
    carry_out, kept = journal._carry_out, tmp_path / "kept.journal"

    def keep(handle: int, pages: dict[int, bytes], size: int) -> None:
        shutil.copy(journal_path(path), kept)
        carry_out(handle, pages, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_carry_out", keep)
        replace_elements(path, {"obsm/X_pca": np.ones((n_obs, 3))})
    complete = digest(path)
    shutil.copy(kept, journal_path(path))
    recover(path)
    assert digest(path) == complete


def test_a_damaged_journal_is_refused_by_name(path: Path) -> None:
    journal_path(path).write_bytes(b"crispyx journal\0" + bytes(100))
    with pytest.raises(InputError, match=r"\.screen\.h5ad\.journal.*damaged"):
        open_file(path)


def test_a_file_that_is_open_elsewhere_is_refused(path: Path) -> None:
    with (
        h5py.File(path, "r"),
        pytest.raises(OutputBusyError, match=r"screen\.h5ad.*open elsewhere"),
    ):
        replace_elements(path, {"uns/a": 1})
    assert leftovers(path) == []


def test_what_is_not_hdf5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.h5ad"
    path.write_text("nothing")
    with pytest.raises(InputError, match=r"notes\.h5ad.*cannot be read as HDF5"):
        replace_elements(path, {"uns/a": 1})
    assert path.read_text() == "nothing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_file_is_refused_by_name(path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(PermissionError, match=r"screen\.h5ad"):
        replace_elements(path, {"uns/a": 1})


def test_a_full_disk_leaves_the_bytes_as_they_were(path: Path) -> None:
    before = digest(path)
    program = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from crispyx._io.edits import replace_elements
        from crispyx.errors import DiskSpaceError
        path = Path(sys.argv[1])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = path.stat().st_size + 100_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            replace_elements(path, {"obsm/X_pca": np.ones((int(sys.argv[2]), 5_000))})
        except DiskSpaceError as error:
            sys.exit("screen.h5ad" not in str(error))
        sys.exit("no error")
    """
    n_obs = str(anndata.read_h5ad(path, backed="r").n_obs)
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), path, n_obs], check=True)
    assert digest(path) == before
    assert leftovers(path) == []
