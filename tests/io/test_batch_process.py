"""A function of one's own over blocks: what it sees, and in which order answers are merged."""

from __future__ import annotations

import layouts
import numpy as np
import pytest

import crispyx as cx
from crispyx.errors import InputError, InputTypeError

COLUMN = layouts.COLUMN


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
    with pytest.raises(InputTypeError, match="finalize"):
        cx.tl.batch_process(path, 3)
    with pytest.raises(InputTypeError, match="Sums is a reducer"):
        cx.tl.batch_process(path, Sums(), together)
    with pytest.raises(InputTypeError, match="control_label"):
        cx.tl.batch_process(path, Sums(), groupby=COLUMN, control_label="control")
    with pytest.raises(InputError, match="'none'"):
        cx.tl.batch_process(path, Differences(), groupby=COLUMN, control_label="none")
    with pytest.raises(InputError, match="channels"):
        cx.tl.batch_process(path, Wrong(), groupby=COLUMN)


class Sums:
    """Cells and sums over them, mergeable."""

    def initialize(self, n_genes):
        return [0, np.zeros(n_genes)]

    def update(self, state, block):
        return [
            state[0] + len(block.obs),
            state[1] + np.asarray(block.X.sum(axis=0, dtype=float)).ravel(),
        ]

    def merge(self, earlier, later):
        return [earlier[0] + later[0], earlier[1] + later[1]]

    def finalize(self, state):
        return state


class Differences(Sums):
    """Means, less those of the control."""

    channels = ("difference", "sum")

    def compare(self, state, control):
        return state[1] / state[0] - control[1] / control[0], state[1]


class Wrong(Sums):
    channels = ("sum",)

    def finalize(self, state):
        return state


class CellByCell:
    """Discounted sums: every cell changes what came before, so that states cannot be merged."""

    def initialize(self, n_genes):
        return np.zeros(n_genes)

    def update(self, state, block):
        for row in block.X.toarray():
            state *= 0.9
            state += np.sqrt(row)
        return state

    def finalize(self, state):
        return state


@pytest.mark.parametrize("groupby", [None, COLUMN])
@pytest.mark.parametrize("kind", [Sums, CellByCell])
def test_layouts_threads_and_sizes_of_blocks_change_no_bit(tmp_path, kind, groupby) -> None:
    values, labels = layouts.count_screen()
    expected = None
    for layout in ("csr", "csc", "dense"):
        path = layouts.write_h5ad(tmp_path / f"{layout}.h5ad", values, labels, layout=layout)
        for chunk_size, n_jobs in ((7, 3), (16, 1), (4096, 2)):
            found = cx.tl.batch_process(
                path, kind(), groupby=groupby, chunk_size=chunk_size, n_jobs=n_jobs
            )
            with np.printoptions(floatmode="unique", threshold=10**6):
                text = repr(found)
            expected = expected or text
            assert text == expected


def test_groups_have_states_of_their_own_cells_and_are_compared_with_the_control(tmp_path) -> None:
    values, labels = layouts.count_screen()
    labels = np.array([label if i % 7 else None for i, label in enumerate(labels)], dtype=object)
    path = layouts.write_h5ad(tmp_path / "screen.h5ad", values, labels)
    known = [label for label in dict.fromkeys(labels) if label is not None]
    sums = cx.tl.batch_process(path, Sums(), groupby=COLUMN, chunk_size=16)
    assert list(sums) == known
    for label, (n_cells, total) in sums.items():
        assert n_cells == (labels == label).sum()
        np.testing.assert_array_equal(total, values[labels == label].sum(axis=0))
    found = cx.tl.batch_process(path, Differences(), groupby=COLUMN, chunk_size=16)
    assert list(found.obs_names) == [label for label in known if label != "control"]
    assert list(found.layers) == ["difference", "sum"]
    np.testing.assert_array_equal(found.X, found.layers["difference"])
    for label in found.obs_names:
        expected = values[labels == label].mean(axis=0) - values[labels == "control"].mean(axis=0)
        np.testing.assert_allclose(found[label].X[0], expected, rtol=1e-12, atol=1e-15)


def test_a_reducer_that_cannot_merge_sees_the_cells_in_order(tmp_path) -> None:
    values, labels = layouts.count_screen()
    path = layouts.write_h5ad(tmp_path / "screen.h5ad", values, labels)
    expected = np.zeros(values.shape[1])
    for row in values.astype(np.float32):  # as in the file
        expected = expected * 0.9 + np.sqrt(row)
    np.testing.assert_array_equal(cx.tl.batch_process(path, CellByCell(), chunk_size=9), expected)
