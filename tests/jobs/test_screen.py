"""Labels, control and gene names are resolved and checked before work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from layouts import COLUMN, in_memory, write_h5ad

from crispyx._io.source import open_source
from crispyx._jobs.labels import CONTROL_NAMES, resolve_control_label
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx.data import normalise_perturbation_labels
from crispyx.errors import CrispyxWarning, InputError, InputTypeError, MissingColumnError

LABELS = ["KLF1", "control", "GATA1", "KLF1", "control", "MYC"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "screen.h5ad", np.eye(6, 3), LABELS)


def resolved(path: Path, **options: Any) -> Screen:
    with open_source(path) as source:
        return resolve_screen(source, **({"perturbation_column": COLUMN} | options))


def cells_of(screen: Screen, k: int) -> list[int]:
    member = screen.membership
    ptr = member.ptr
    return [i for i in range(len(ptr) - 1) if k in member.groups[ptr[i] : ptr[i + 1]]]


def test_groups_come_in_order_of_first_appearance(path: Path) -> None:
    screen = resolved(path)
    assert (screen.control_label, screen.groups) == ("control", ("KLF1", "GATA1", "MYC"))
    assert [cells_of(screen, k) for k in range(4)] == [[1, 4], [0, 3], [2], [5]]
    assert screen.group_sizes.tolist() == [2, 1, 1]
    assert screen.genes.tolist() == ["gene0", "gene1", "gene2"]


def test_perturbations_asked_for_become_the_groups_in_their_order(path: Path) -> None:
    screen = resolved(path, perturbations=["MYC", "control", "KLF1", "MYC"])
    assert screen.groups == ("MYC", "KLF1")
    assert [cells_of(screen, k) for k in range(3)] == [[1, 4], [5], [0, 3]]


def test_control_can_be_any_label(path: Path) -> None:
    screen = resolved(path, control_label="KLF1")
    assert screen.groups == ("control", "GATA1", "MYC")


def test_rest_is_every_labelled_cell_without_the_perturbation(tmp_path: Path) -> None:
    labels = [*LABELS, None]
    path = write_h5ad(tmp_path / "screen.h5ad", np.eye(7, 3), labels)
    with pytest.warns(CrispyxWarning, match="1 of 7 cells have no label"):
        screen = resolved(path, control_label="rest")
    assert screen.groups == ("KLF1", "control", "GATA1", "MYC")
    assert screen.membership.pooled
    assert cells_of(screen, 0) == [0, 1, 2, 3, 4, 5]
    assert cells_of(screen, 1) == [0, 3]


def test_label_called_rest_is_a_label(tmp_path: Path) -> None:
    labels = ["rest", "KLF1", "rest"]
    screen = resolved(write_h5ad(tmp_path / "s.h5ad", np.eye(3), labels), control_label="rest")
    assert not screen.membership.pooled
    assert cells_of(screen, 0) == [0, 2]


def test_cells_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "s.h5ad", np.eye(4), ["KLF1", None, "control", None])
    with pytest.warns(CrispyxWarning, match=rf"2 of 4 cells have no label .*{COLUMN}.*s\.h5ad"):
        screen = resolved(path)
    assert screen.groups == ("KLF1",)
    assert screen.membership.used_cells.tolist() == [True, False, True, False]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_missing_labels_in_memory_are_no_group(missing: Any) -> None:
    adata = in_memory(np.eye(3), ["KLF1", "control", "MYC"], sp.csr_matrix)
    adata.obs[COLUMN] = pd.Series(["KLF1", "control", missing], dtype=object).to_numpy()
    with pytest.warns(CrispyxWarning, match="1 of 3 cells have no label"), open_source(adata) as s:
        assert resolve_screen(s, perturbation_column=COLUMN).groups == ("KLF1",)


def test_labels_may_be_numbers(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "s.h5ad", np.eye(4), [3, 0, 1, 0], label_kind="numbers")
    screen = resolved(path, control_label=0, perturbations=[1])
    assert (screen.control_label, screen.groups) == ("0", ("1",))


def test_gene_names_come_from_the_column_asked_for(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["var/symbol"] = np.array([b"KLF1", b"GATA1", b"MYC"])
        file["var"].attrs["column-order"] = ["symbol"]
    assert resolved(path, gene_name_column="symbol").genes.tolist() == ["KLF1", "GATA1", "MYC"]


def test_checksum_follows_groups_and_names_only(path: Path, tmp_path: Path) -> None:
    other = write_h5ad(tmp_path / "o.h5ad", np.ones((6, 3)), LABELS, layout="dense")
    moved = write_h5ad(tmp_path / "m.h5ad", np.eye(6, 3), LABELS[::-1])
    renamed = write_h5ad(tmp_path / "r.h5ad", np.eye(6, 3), LABELS, genes=["a", "b", "c"])
    same, *others = (resolved(p).checksum for p in (other, moved, renamed))
    assert same == resolved(path).checksum
    assert len({same, *others}) == 3


# What is refused


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (LABELS, {"control_label": "NT"}, "control label 'NT' is not in"),
        (["KLF1", "GATA1"], {}, "no label reads like a control among 'KLF1', 'GATA1'"),
        (
            ["CTRL", "non-targeting", "KLF1"],
            {},
            r"several labels read like a control: 'CTRL', 'non-targeting'; say which.*"
            r"control_aliases=\['CTRL', 'non-targeting'\]",
        ),
        ([None, None], {}, "there are no perturbation labels"),
        (["control", "control"], {}, "holds only the control 'control'"),
        (LABELS, {"perturbations": ["KLF1", "TP53"]}, "perturbations asks for 'TP53', which"),
        (LABELS, {"perturbations": []}, "names no group beside the control"),
        (LABELS, {"perturbations": ["control"]}, "names no group beside the control"),
        (LABELS, {"perturbations": "KLF1"}, "is the text 'KLF1'; give a list"),
    ],
)
@pytest.mark.filterwarnings("ignore:.* cells have no label")
def test_labels_that_cannot_be_compared_are_refused(labels, options, message, tmp_path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", np.eye(len(labels), 3), labels)
    with pytest.raises(InputError, match=message) as error:
        resolved(path, **options)
    if "perturbations" not in options or "TP53" in str(options):
        assert str(path) in str(error.value)
        assert repr(COLUMN) in str(error.value)


@pytest.mark.parametrize("several", [["NT1", "NT2"], ("NT1", "NT2"), np.array(["NT1", "NT2"])])
def test_a_list_of_controls_is_refused_with_the_way_to_one_label(several, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", np.eye(4), ["NT1", "NT2", "KLF1", "NT1"])
    with pytest.raises(InputTypeError, match="'NT1', 'NT2'; perturbations are compared with one"):
        resolved(path, control_label=several)
    normalise_perturbation_labels(
        path, COLUMN, control_aliases=["NT1", "NT2"], canonical_control="control"
    )
    screen = resolved(path)  # as the message says
    assert screen.control_label == "control"
    assert screen.membership.sizes.tolist() == [3, 1]


def test_labels_there_are_named_ten_at_most(tmp_path: Path) -> None:
    labels = [f"P{i:02}" for i in range(25)]
    path = write_h5ad(tmp_path / "screen.h5ad", np.eye(25), labels)
    with pytest.raises(InputError, match=r"'P00', .* 'P09' and 15 more; give control_label="):
        resolved(path, control_label="NT")


def test_missing_column_is_refused_with_those_there_are(path: Path) -> None:
    with pytest.raises(MissingColumnError, match=f"has no obs column 'target'; it has: {COLUMN}"):
        resolved(path, perturbation_column="target")
    with pytest.raises(
        MissingColumnError, match="has no var column 'symbol'; its var has no column"
    ):
        resolved(path, gene_name_column="symbol")


def test_genes_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "s.h5ad", np.eye(6, 3), LABELS, genes=["MYC", "KLF1", "MYC"])
    with pytest.raises(InputError, match=r"1 gene names stand more than once .*: 'MYC'; make") as e:
        resolved(path)
    assert "the var index" in str(e.value)
    assert str(path) in str(e.value)


def test_cells_of_one_name_are_told(tmp_path: Path) -> None:
    path = write_h5ad(
        tmp_path / "s.h5ad", np.eye(6, 3), LABELS, cells=["a", "b", "a", "c", "a", "b"]
    )
    with pytest.warns(CrispyxWarning, match=r"3 cell names of .*s\.h5ad .* \(first: 'a'\)"):
        assert resolved(path).membership.used_cells.sum() == 6


def test_column_shorter_than_the_matrix_is_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        codes = file[f"obs/{COLUMN}/codes"][:-1]
        del file[f"obs/{COLUMN}/codes"]
        file[f"obs/{COLUMN}/codes"] = codes
    with pytest.raises(InputError, match=r"obs column 'perturbation' has shape \(5,\)"):
        resolved(path)


# Which label is the control


@pytest.mark.parametrize("name", CONTROL_NAMES)
def test_usual_names_of_controls_are_found_in_any_case(name: str) -> None:
    for label in (name, name.upper(), name.title()):
        assert resolve_control_label(["KLF1", label, "MYC"], None) == label


def test_exact_name_wins_over_one_that_contains_it() -> None:
    assert resolve_control_label(["non-targeting_1", "ctrl", "KLF1"], None) == "ctrl"
    assert resolve_control_label(["non-targeting_1", "KLF1"], None) == "non-targeting_1"


def test_explicit_label_is_returned_as_it_is() -> None:
    assert resolve_control_label(["KLF1"], "anything") == "anything"


@pytest.mark.parametrize("form", [list, np.array, pd.Series, pd.Categorical, iter])
def test_labels_come_in_any_container(form: Any) -> None:
    labels = form(["KLF1", "NTC", "KLF1"])
    assert resolve_control_label(labels, None, verbose=False) == "NTC"
