"""A function of one's own over blocks: what it sees, and in which order answers are merged."""

from __future__ import annotations

import layouts
import numpy as np
import pytest

import crispyx as cx
from crispyx.errors import InputError, InputTypeError


def seen(block) -> list:
    return [(block.start, block.stop, block.X.toarray(), list(block.obs.index))]


def together(earlier: list, later: list) -> list:
    return earlier + later


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_blocks_are_the_same_in_every_layout_and_come_in_order(tmp_path, layout, n_jobs) -> None:
    values, labels = layouts.count_screen()
    path = layouts.write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout)
    blocks = cx.tl.batch_process(path, seen, together, chunk_size=16, n_jobs=n_jobs)
    assert [block[:2] for block in blocks] == [(0, 16), (16, 32), (32, 48), (48, 61)]
    np.testing.assert_array_equal(np.vstack([block[2] for block in blocks]), values)
    assert [name for block in blocks for name in block[3]] == [f"cell{i}" for i in range(61)]


def test_blocks_do_not_end_where_files_do(tmp_path) -> None:
    screen = layouts.count_screen()
    paths = [layouts.write_h5ad(tmp_path / f"{n}.h5ad", *screen) for n in "ab"]
    blocks = cx.tl.batch_process(paths, seen, together, chunk_size=50)
    assert [block[:2] for block in blocks] == [(0, 50), (50, 100), (100, 122)]
    assert set(cx.tl.batch_process(paths, lambda b: set(b.obs["file"]), set.union)) == {"a", "b"}


def test_an_error_of_the_function_is_the_error_of_the_call(tmp_path) -> None:
    path = layouts.write_h5ad(tmp_path / "screen.h5ad", *layouts.count_screen())
    with pytest.raises(ZeroDivisionError):
        cx.tl.batch_process(path, lambda block: 1 // 0, together)


def test_what_cannot_work_is_refused(tmp_path) -> None:
    path = layouts.write_h5ad(tmp_path / "screen.h5ad", *layouts.count_screen())
    with pytest.raises(InputTypeError, match="merge"):
        cx.tl.batch_process(path, seen, None)
    with pytest.raises(InputError, match="chunk_size"):
        cx.tl.batch_process(path, seen, together, chunk_size=0)
