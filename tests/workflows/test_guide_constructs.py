"""Guides become constructs and targets, and their numbers a multiplicity of infection."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx as cx
from crispyx.errors import CrispyxWarning, InputError, InputTypeError, MissingColumnError
from crispyx.settings import use_engine

GUIDES = ["A1", "A2", "B1", "B2", "N1", "N2", "S"]
# Two dual-guide vectors, a vector of two non-targeting guides, and a single guide.
TABLE = pd.DataFrame(
    {
        "guide": GUIDES,
        "construct": ["vA", "vA", "vB", "vB", "vN", "vN", "vS"],
        "target": ["A", "A", "B", "B", "NT", "NT", "S"],
    }
)


def called(*cells: str, guides: list[str] | None = None) -> ad.AnnData:
    """Return calls of cells that are given as their guides, such as ``"A1 B2"``."""
    names = GUIDES if guides is None else guides
    counts = np.array([[9 * (name in cell.split()) for name in names] for cell in cells])
    obs = pd.DataFrame(index=[f"AAAC{i}-1" for i in range(len(cells))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)  # of guides that no cell has
        return cx.gd.assign(
            ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names)), "umi"
        )


def row(cell: str, table: Any = TABLE, **given: Any) -> tuple[Any, ...]:
    obs = cx.gd.constructs(called(cell), table, **given).obs.iloc[0]
    named = (None if pd.isna(obs[name]) else obs[name] for name in ("construct", "target"))
    return (obs["guide_class"], *named, bool(obs["is_recombined"]))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("", ("none", None, None, False)),
        ("A1", ("single", "vA", "A", False)),
        ("S", ("single", "vS", "S", False)),
        ("A1 A2", ("pair", "vA", "A", False)),
        ("N1 N2", ("pair", "vN", "NT", False)),
        ("A1 B2", ("multiplet", None, None, True)),
        ("A2 B1", ("multiplet", None, None, True)),
        # The same position of two vectors cannot come out of one recombination.
        ("A1 B1", ("multiplet", None, None, False)),
        ("A1 S", ("multiplet", None, None, False)),
        ("A1 A2 B2", ("multiplet", None, None, False)),
        ("A1 A2 B1 B2", ("multiplet", None, None, False)),
    ],
)
def test_class_construct_and_target_follow_from_the_guides(cell: str, expected: tuple) -> None:
    assert row(cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("S N1", ("pair", "vS", "S", False)),
        ("A1 N2", ("pair", "vA", "A", False)),
        ("N1 N2", ("pair", "vN", "NT", False)),
        ("A1 B2", ("multiplet", None, None, True)),
        ("A1 A2 N1", ("multiplet", None, None, False)),
        ("N1", ("single", "vN", "NT", False)),
    ],
)
def test_targeting_beside_non_targeting_is_a_pair_when_asked(cell: str, expected: tuple) -> None:
    assert row(cell, control_target="NT") == expected


def test_two_controls_of_different_constructs_are_a_pair_of_the_control() -> None:
    table = TABLE.assign(construct=["vA", "vA", "vB", "vB", "n1", "n2", "vS"])
    assert row("N1 N2", table, control_target="NT") == ("pair", None, "NT", False)
    assert row("N1 N2", table) == ("multiplet", None, None, False)


def test_guide_of_several_constructs_names_the_target_they_share() -> None:
    shared = pd.DataFrame(
        [
            ("A1", "a", "A"), ("N1", "a", "A"),
            ("A2", "a2", "A"), ("N1", "a2", "A"),
            ("B1", "b", "B"), ("N2", "b", "B"),
            ("B2", "c", "C"), ("N2", "c", "C"),
            ("S", "s", "S"),
        ],
        columns=["guide", "construct", "target"],
    )  # fmt: skip
    assert row("A1 N1", shared) == ("pair", "a", "A", False)
    assert row("A2 N1", shared) == ("pair", "a2", "A", False)
    assert row("N1", shared) == ("single", None, "A", False)
    assert row("N2", shared) == ("single", None, None, False)


def test_all_constructs_of_a_cell_are_listed() -> None:
    cells = ["", "A1", "A1 A2", "A1 A2 B2", "A1 B2 S"]
    found = cx.gd.constructs(called(*cells), TABLE)
    assert found.uns["constructs"]["construct"].tolist() == ["vA", "vB", "vN", "vS"]
    assert found.uns["constructs"]["target"].tolist() == ["A", "B", "NT", "S"]
    assert found.obsm["constructs"].toarray().tolist() == [
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 0, 1],
    ]


@pytest.mark.parametrize("form", ["frame", "dict", "csv", "tsv"])
def test_table_of_constructs_comes_in_every_form(tmp_path: Path, form: str) -> None:
    calls = called("A1 A2", "A1 B2", "S", "")
    calls.write_h5ad(tmp_path / "calls.h5ad")
    table: Any = TABLE
    if form == "dict":
        table = {g: (c, t) for g, c, t in TABLE.itertuples(index=False)}
    elif form != "frame":
        table = tmp_path / f"table.{form}"
        TABLE.to_csv(table, index=False, sep="," if form == "csv" else "\t")
    expected = cx.gd.constructs(calls, TABLE)
    for given in (calls, tmp_path / "calls.h5ad"):
        found = cx.gd.constructs(given, table)
        pd.testing.assert_frame_equal(found.obs, expected.obs)
    found.write_h5ad(tmp_path / "again.h5ad")
    pd.testing.assert_frame_equal(ad.read_h5ad(tmp_path / "again.h5ad").obs, expected.obs)
    assert "guide_class" not in calls.obs


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda t: t.iloc[1:], InputError, "1 of 7 guides are in no construct.*'A1'"),
        (lambda t: t.drop(columns="target"), MissingColumnError, "no column 'target'"),
        (
            lambda t: t.assign(target=list("ABCDEFG")),
            InputError,
            "'vA' has the targets 'A' and 'B'",
        ),
        (lambda t: pd.concat([t, t.iloc[:1]]), InputError, "'A1' stands twice"),
        (lambda t: t.assign(target=["A", None, *"BBNNS"]), InputError, "no target in row 2"),
        (lambda t: ["A1"], InputTypeError, "given as a list"),
        (lambda t: {"A1": "A"}, InputTypeError, "'A1' to 'A'"),
        (lambda t: "table.xlsx", InputError, r"\.csv and \.tsv"),
        (lambda t: "nowhere.csv", FileNotFoundError, "nowhere.csv"),
    ],
)
def test_table_with_a_fault_is_refused(change: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        cx.gd.constructs(called("A1"), change(TABLE))
    with pytest.raises(InputError, match="control_target is 'none'"):
        cx.gd.constructs(called("A1"), TABLE, control_target="none")


def test_join_takes_the_target_of_the_construct(tmp_path: Path) -> None:
    cells = ["A1 A2", "A1", "A1 B2", "", "S", "N1 N2", "A1 A2 S"]
    calls = cx.gd.constructs(called(*cells), TABLE)
    genes = ad.AnnData(sp.eye(7, 2, format="csr"), obs=pd.DataFrame(index=calls.obs_names[::-1]))
    given = {"control_label": "NT", "membership": "perturbed", "output_path": tmp_path / "j.h5ad"}
    out = cx.gd.add_to(genes, calls, **given).to_memory()[::-1]
    label = [None if pd.isna(value) else value for value in out.obs["perturbation"]]
    assert label == ["A", "A", None, None, "S", "NT", None]
    assert out.obs["guide_class"].tolist() == calls.obs["guide_class"].tolist()
    assert out.obs["construct"].isna().tolist() == calls.obs["construct"].isna().tolist()
    assert out.obs["guide"].isna().tolist() == [False, False, True, True, False, False, True]
    assert out.uns["perturbed_names"].tolist() == ["A", "B", "NT", "S"]
    assert out.obsm["perturbed"].toarray().tolist() == [
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
        [1, 0, 0, 1],
    ]
    summary = cx.gd.join_summary(tmp_path / "j.h5ad")
    assert (summary.n_one_guide, summary.n_several_guides, summary.n_no_guide) == (4, 2, 1)
    table = cx.gd.write_calls(calls, tmp_path / "calls.csv")
    given |= {"membership": None, "output_path": tmp_path / "k.h5ad"}
    again = cx.gd.add_to(genes, table, **given).to_memory()[::-1]
    pd.testing.assert_series_equal(again.obs["perturbation"], out.obs["perturbation"])
    with pytest.raises(InputError, match="comes from column 'target' of the constructs"):
        cx.gd.add_to(genes, calls, control_guides=["N1"], output_path=tmp_path / "l.h5ad")
    by_guide = {"targets": str.lower, "control_label": "s", "output_path": tmp_path / "m.h5ad"}
    assert "guide_class" not in cx.gd.add_to(genes, calls, **by_guide).obs.load()


# ---------------------------------------------------------------- multiplicity


def simulated(moi: float, capture: float, n_cells: int, n_guides: int = 60) -> ad.AnnData:
    rng = np.random.default_rng(4)
    infected = rng.poisson(moi, 3 * n_cells)
    number = rng.binomial(infected[infected > 0][:n_cells], capture)
    picked = [rng.choice(n_guides, n, replace=False) for n in number]
    cells = np.repeat(np.arange(n_cells), number)
    counts = sp.csr_matrix(
        (np.full(len(cells), 9), (cells, np.concatenate(picked))), shape=(n_cells, n_guides)
    )
    return cx.gd.assign(ad.AnnData(counts), "umi")


def test_multiplicity_of_simulated_calls_is_the_truth(tmp_path: Path) -> None:
    calls = simulated(0.9, 0.8, 6000)
    found = cx.gd.moi(calls)
    assert found.n_cells == 6000
    assert abs(found.moi - 0.9) < 3 * found.standard_error < 0.15
    assert found.capture == pytest.approx(0.8, abs=0.05)
    assert found.counts.sum() == 6000
    assert found.counts.index.name == "n_guides"
    assert found.counts.tolist() == np.bincount(calls.obs["n_guides_detected"]).tolist()
    assert found.expected.sum() == pytest.approx(6000, rel=1e-3)
    assert found.shares.index.tolist() == ["none", "single", "pair", "multiplet"]
    assert found.shares.sum() == pytest.approx(1)
    assert found.shares["pair"] == found.counts[2] / 6000
    repeated = 1 - 0.9 / np.expm1(0.9)
    assert found.expected_multiplets == pytest.approx(6000 * repeated, rel=0.06)
    with use_engine("reference"):
        assert cx.gd.moi(calls).moi == pytest.approx(found.moi, rel=1e-10)
    calls.write_h5ad(tmp_path / "calls.h5ad")
    cx.gd.write_calls(calls, tmp_path / "calls.csv")
    for given in (tmp_path / "calls.h5ad", tmp_path / "calls.csv", calls.obs):
        assert cx.gd.moi(given).moi == found.moi


def test_known_capture_leaves_one_unknown() -> None:
    found = cx.gd.moi(simulated(8.0, 0.05, 6000), capture=0.05)
    assert found.capture == 0.05
    assert abs(found.moi - 8.0) < 3 * found.standard_error < 1


def test_both_guides_of_a_vector_are_one_infection() -> None:
    cells = ["A1 A2"] * 50 + ["B1 B2"] * 40 + ["A1"] * 5 + ["A1 A2 B1 B2"] * 9 + [""] * 3
    found = cx.gd.moi(cx.gd.constructs(called(*cells), TABLE))
    assert found.counts.tolist() == [3, 95, 9]
    assert (found.shares * 107).round().tolist() == [3, 5, 90, 9]


def test_more_empty_cells_than_possible_are_said() -> None:
    with pytest.warns(CrispyxWarning, match="30 of 33 cells.*give capture="):
        found = cx.gd.moi(called(*[""] * 30, "A1", "A1 B1", "A1 B1 S"))
    assert np.isinf(found.moi)
    assert np.isnan([found.standard_error, found.expected_multiplets]).all()
    assert found.expected.isna().all()


@pytest.mark.parametrize("capture", [0, 1.2, -0.1, float("nan"), "0.5", True])
def test_capture_out_of_range_is_refused(capture: Any) -> None:
    with pytest.raises(InputError, match="capture is"):
        cx.gd.moi(called("A1", ""), capture=capture)


def test_calls_that_tell_no_multiplicity_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="capture=1 says that every guide is seen, but 1 cells"):
        cx.gd.moi(called("A1", ""), capture=1)
    with pytest.raises(InputError, match=r"no cell of .* has a guide"):
        cx.gd.moi(called("", ""))
    path = cx.gd.write_calls(called("A1", ""), tmp_path / "pairs.csv", long=True)
    with pytest.raises(InputError, match="lists only cells with a call"):
        cx.gd.moi(path)


def test_schraivogel_has_the_multiplicity_of_a_low_moi_screen(data_dir: Path) -> None:
    found = cx.gd.moi(cx.gd.assign(data_dir / "schraivogel_gRNA_counts.h5ad", "umi"))
    assert found.moi == pytest.approx(0.2467, abs=1e-4)
    assert found.capture == pytest.approx(0.9660, abs=1e-4)
    assert found.counts[:4].tolist() == [662, 19060, 1952, 257]
