"""Some cells of a data set, drawn at random."""

from __future__ import annotations

import anndata
import layouts
import numpy as np
import pytest
import slots

import crispyx as cx
from crispyx.errors import InputError

COLUMN = layouts.COLUMN


@pytest.fixture
def path(tmp_path):
    values, labels = layouts.count_screen()
    file = tmp_path / "rich.h5ad"
    slots.rich(values, labels).write_h5ad(file)
    return file


@pytest.mark.parametrize("options", [{"n_obs": 17}, {"fraction": 0.28}])
def test_exact_numbers_of_cells_with_all_their_slots(path, tmp_path, options) -> None:
    before = anndata.read_h5ad(path)
    after = cx.pp.subsample(path, **options, output_path=tmp_path / "o.h5ad").to_memory()
    assert after.n_obs == 17  # 0.28 of 61
    rows = before.obs_names.get_indexer(after.obs_names)
    assert (np.diff(rows) > 0).all()
    expected = before[rows].copy()
    np.testing.assert_array_equal(after.X.toarray(), expected.X.toarray())
    slots.assert_same_slots(after, expected, added_uns=["crispyx"])


def test_every_group_gets_its_number_and_cells_without_label_none(path, tmp_path) -> None:
    after = cx.pp.subsample(path, 5, groupby=COLUMN, output_path=tmp_path / "o.h5ad")
    assert after.obs[COLUMN].value_counts().to_dict() == dict.fromkeys(
        ["KLF1", "control", "GATA1", "MYC"], 5
    )


def test_groups_that_are_too_small_are_kept_whole_or_left_out(path, tmp_path) -> None:
    sizes = anndata.read_h5ad(path).obs[COLUMN].value_counts().drop("unused")
    wanted = int(sizes.min()) + 1
    kept = cx.pp.subsample(path, wanted, groupby=COLUMN, output_path=tmp_path / "kept.h5ad")
    found = kept.obs[COLUMN].value_counts()
    assert found.to_dict() == sizes.clip(upper=wanted).to_dict()
    left = cx.pp.subsample(
        path, wanted, groupby=COLUMN, drop_insufficient=True, output_path=tmp_path / "left.h5ad"
    )
    assert set(left.obs[COLUMN]) == set(sizes.index[sizes >= wanted])


def test_units_are_drawn_with_all_their_cells_of_the_group(path, tmp_path) -> None:
    before = anndata.read_h5ad(path).obs
    units = [None if i % 10 == 0 else f"g{i % 5}" for i in range(61)]
    cx.data.write_obs(path, before.assign(guide=units))
    after = cx.pp.subsample(path, 2, groupby=COLUMN, unit="guide", output_path=tmp_path / "o.h5ad")
    sizes = before.assign(guide=units).groupby([COLUMN, "guide"], observed=True).size()
    found = after.obs.groupby([COLUMN, "guide"], observed=True).size()
    assert found.to_dict() == {key: sizes[key] for key in found.index}
    assert set(found.groupby(level=0, observed=True).size()) == {2}
    whole = cx.pp.subsample(path, fraction=0.4, unit="guide", output_path=tmp_path / "w.h5ad")
    assert whole.obs["guide"].nunique() == 2
    few = {"groupby": COLUMN, "unit": "guide", "drop_insufficient": True}
    with pytest.raises(InputError, match="has 6 guide; lower n_obs"):
        cx.pp.subsample(path, 6, **few, output_path=tmp_path / "n.h5ad")
    with pytest.raises(InputError, match="5 labels in obs column 'guide'"):
        cx.pp.subsample(path, 6, unit="guide", output_path=tmp_path / "n.h5ad")


def test_seed_decides_and_layout_does_not(tmp_path) -> None:
    screen = layouts.count_screen()
    names = {}
    for layout in ("csr", "csc", "dense"):
        file = layouts.write_h5ad(tmp_path / f"{layout}.h5ad", *screen, layout=layout)
        output = tmp_path / f"{layout}_o.h5ad"
        names[layout] = list(cx.pp.subsample(file, 20, output_path=output).obs_names)
    assert names["csr"] == names["csc"] == names["dense"]
    other = cx.pp.subsample(file, 20, random_state=1, output_path=tmp_path / "1.h5ad")
    assert list(other.obs_names) != names["dense"]


@pytest.mark.parametrize(
    "options",
    [{}, {"n_obs": 5, "fraction": 0.5}, {"n_obs": 62}, {"fraction": 1.5}, {"n_obs": 0}],
)
def test_impossible_requests_are_refused(path, options) -> None:
    with pytest.raises(InputError):
        cx.pp.subsample(path, **options)
