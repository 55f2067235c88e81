"""Pseudobulk files: what is in them, and that nothing but the data changes a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from layouts import COLUMN, FILES, OBJECTS, assert_same_bits, count_screen, tables_of, write_h5ad

import crispyx as cx
from crispyx._io.source import MatrixSource
from crispyx._jobs import partial as partial_unit
from crispyx._kernels import layout as kernel_layout
from crispyx.errors import (
    CheckpointError,
    CrispyxWarning,
    InputError,
    MemoryBudgetError,
    MissingColumnError,
    OutputExistsError,
)
from crispyx.pseudobulk import job, totals
from reference.pseudobulk import batch_weights, bootstrap_times, weighted_difference

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:.* cell names of .* stand more than once"
)
REPLICATES = ["r2", "r1", "r3"]


def screen(replicates: bool = True) -> anndata.AnnData:
    """Return counts with labels, replicates and the guide's target, in memory."""
    values, labels = count_screen()
    rng = np.random.default_rng(5)
    obs = pd.DataFrame(
        {
            COLUMN: pd.Categorical(labels),
            "replicate": rng.choice(REPLICATES, len(labels)),
            "target": [None if x is None else f"target of {x}" for x in labels],
            "depth": values.sum(axis=1),
        },
        index=[f"cell{i}" for i in range(len(labels))],
    )
    obs.loc[obs[COLUMN] == "MYC", "replicate"] = "r1"
    return anndata.AnnData(
        sp.csr_matrix(values), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(13)])
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    screen().write_h5ad(tmp_path / "screen.h5ad")
    return tmp_path / "screen.h5ad"


def read(result: Any) -> anndata.AnnData:
    return anndata.read_h5ad(result.path)


def log_counts(adata: anndata.AnnData) -> np.ndarray:
    counts = adata.X.toarray()
    return np.log1p(counts * 1e4 / counts.sum(axis=1, keepdims=True))


def test_average_log_expression_is_its_formula(path: Path) -> None:
    adata = screen()
    found = read(cx.pb.average_log_expression(path, perturbation_column=COLUMN))
    assert path.with_name("crispyx_avg_log_effects.h5ad").exists()
    assert found.obs_names.tolist() == found.obs[COLUMN].tolist() == ["KLF1", "GATA1", "MYC"]
    assert found.obs_names.name == "perturbation"
    logs = log_counts(adata)
    control = logs[adata.obs[COLUMN] == "control"].mean(axis=0)
    # One rounding per addition.
    np.testing.assert_allclose(found.uns["control_mean"], control, rtol=1e-14)
    for label in found.obs_names:
        mean = logs[adata.obs[COLUMN] == label].mean(axis=0)
        row = found[label]
        np.testing.assert_allclose(row.layers["perturbation_mean"][0], mean, rtol=1e-14)
        np.testing.assert_allclose(row.X[0], mean - control, rtol=1e-12, atol=1e-14)
    assert found.X.dtype == found.layers["perturbation_mean"].dtype == np.float64


@pytest.mark.parametrize("baseline", [1.0, 0.25])
def test_pseudobulk_is_its_formula(path: Path, baseline: float) -> None:
    adata = screen()
    result = cx.pb.pseudobulk(path, perturbation_column=COLUMN, baseline_count=baseline)
    assert result.path.name == "crispyx_pseudobulk_effects.h5ad"
    found = read(result)
    scaled = np.expm1(log_counts(adata))
    bulk = {
        k: np.log1p(baseline * scaled[adata.obs[COLUMN] == k].mean(axis=0))
        for k in ("control", *found.obs_names)
    }
    assert found.uns["baseline_count"] == baseline
    np.testing.assert_allclose(found.uns["control_bulk"], bulk["control"], rtol=1e-13)
    for label in found.obs_names:
        row = found[label]
        np.testing.assert_allclose(row.layers["perturbation_bulk"][0], bulk[label], rtol=1e-13)
        np.testing.assert_allclose(row.X[0], bulk[label] - bulk["control"], atol=1e-12)


def test_profiles_are_those_of_scanpy(path: Path) -> None:
    adata = screen()
    adata = adata[adata.obs[COLUMN].notna()].copy()
    expected = sc.get.aggregate(adata, by=[COLUMN, "replicate"], func="sum")
    found = read(cx.pb.aggregate(path, groupby=[COLUMN, "replicate"], min_cells=1))
    assert found.X.dtype == np.int64
    assert found.obs_names.name == "pseudobulk_id"
    names = (
        expected.obs[COLUMN].astype(str) + "|" + expected.obs["replicate"].astype(str)
    ).tolist()
    assert set(names) == set(found.obs_names)
    np.testing.assert_array_equal(found[names].X, expected.layers["sum"])
    assert found.obs["n_cells"].sum() == adata.n_obs
    means = read(cx.pb.aggregate(path, groupby=COLUMN, method="mean_log1p", output_dir=path.parent))
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray()))
    expected = sc.get.aggregate(adata, by=COLUMN, func="mean")
    np.testing.assert_allclose(means[expected.obs_names].X, expected.layers["mean"], rtol=1e-14)


def test_profiles_carry_the_columns_with_one_value_each(path: Path) -> None:
    found = read(cx.pb.aggregate(path, groupby=COLUMN, min_cells=1))
    assert found.obs["target"].tolist() == [f"target of {x}" for x in found.obs[COLUMN]]
    assert "replicate" not in found.obs
    assert "depth" not in found.obs
    assert not found.obs["sampled_with_replacement"].any()
    assert found.uns["crispyx_pseudobulk"]["groupby"].tolist() == [COLUMN]


def test_small_profiles_are_left_out(path: Path) -> None:
    with pytest.warns(CrispyxWarning, match="min_cells=6 cells and are left out"):
        found = read(cx.pb.aggregate(path, groupby=[COLUMN, "replicate"], min_cells=6))
    assert found.obs["n_cells"].min() >= 6
    with pytest.raises(InputError, match="min_cells=62"):
        cx.pb.aggregate(path, groupby=COLUMN, min_cells=62)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_bootstrap_adds_the_cells_it_draws(layout: str, tmp_path: Path) -> None:
    values, labels = count_screen()
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout)
    found = read(cx.pb.aggregate(path, groupby=COLUMN, bootstrap_size=40, random_state=3))
    for name in found.obs_names:
        cells = values[[label == name for label in labels]]
        times = bootstrap_times(len(cells), 40, 3, name)
        np.testing.assert_array_equal(found[name].X[0], times @ cells)
    assert found.obs["n_cells_aggregated"].tolist() == [40] * found.n_obs
    assert found.obs["sampled_with_replacement"].all()


@pytest.mark.parametrize("method", ["mean_log1p", "log_mean"])
def test_normalized_effects_are_weighted_over_batches(path: Path, method: str) -> None:
    adata = screen()
    result = cx.pb.normalized_effects(
        path, perturbation_column=COLUMN, batch_column="replicate", method=method
    )
    found = read(result)
    logs = log_counts(adata)
    x = logs if method == "mean_log1p" else np.expm1(logs)
    label, batch = adata.obs[COLUMN].astype(object), adata.obs["replicate"]
    names = list(dict.fromkeys(batch))
    for name in found.obs_names:
        inside = [[(label == k) & (batch == b) for b in names] for k in ("control", name)]
        sizes = [[mask.sum() for mask in masks] for masks in inside]
        profiles = np.array(
            [[x[m].mean(axis=0) if m.any() else x[0] for m in masks] for masks in inside]
        )
        profiles = profiles if method == "mean_log1p" else np.log1p(profiles)
        weights = batch_weights(*sizes)
        for g in range(13):
            wanted = weighted_difference(*profiles[:, :, g], weights)
            tables = (
                found[name].X[0, g],
                found[name].layers["control_profile_matched"][0, g],
                found[name].layers["perturbation_profile"][0, g],
            )
            np.testing.assert_allclose(tables, wanted, rtol=1e-11, atol=1e-13)
    assert found.uns["batch_ids"].tolist() == names


@pytest.mark.parametrize(
    ("method", "plain"),
    [("mean_log1p", cx.pb.average_log_expression), ("log_mean", cx.pb.pseudobulk)],
)
def test_normalized_effects_of_one_batch_are_the_plain_ones(path, method, plain) -> None:
    options = {"perturbation_column": COLUMN}
    found = read(cx.pb.normalized_effects(path, method=method, **options))
    np.testing.assert_array_equal(found.X, read(plain(path, **options)).X)


def test_effects_of_batches_and_their_average(path: Path) -> None:
    options = {"perturbation_column": COLUMN, "batch_column": "replicate", "min_cells": 2}
    rows = read(cx.pb.effects(path, **options))
    profiles = read(
        cx.pb.aggregate(path, groupby=[COLUMN, "replicate"], method="mean_log1p", min_cells=1)
    )
    for name, row in rows.obs.iterrows():
        control = profiles[f"control|{row['replicate']}"]
        perturbed = profiles[f"{row[COLUMN]}|{row['replicate']}"]
        np.testing.assert_array_equal(rows[name].X, perturbed.X - control.X)
        assert row["n_cells_target"] == perturbed.obs["n_cells"].iloc[0] >= 2
        assert row["n_cells_reference"] == control.obs["n_cells"].iloc[0] >= 2
    found = read(cx.pb.effects(path, aggregate_batches=True, **options))
    for label in found.obs_names:
        own = rows[(rows.obs[COLUMN] == label).to_numpy()]
        weights = batch_weights(own.obs["n_cells_reference"], own.obs["n_cells_target"])
        np.testing.assert_allclose(found[label].X[0], weights @ own.X, rtol=1e-12, atol=1e-14)
        assert found.obs.loc[label, "n_batches_used"] == own.n_obs


def test_perturbation_in_no_batch_with_controls_has_no_effect(tmp_path: Path) -> None:
    adata = screen()
    adata.obs.loc[adata.obs[COLUMN] == "MYC", "replicate"] = "alone"
    adata.write_h5ad(tmp_path / "screen.h5ad")
    options = {"perturbation_column": COLUMN, "batch_column": "replicate"}
    with pytest.warns(CrispyxWarning, match="'alone' .* hold no control"):
        found = read(cx.pb.normalized_effects(tmp_path / "screen.h5ad", **options))
    assert np.isnan(found["MYC"].X).all()
    assert np.isfinite(found["KLF1"].X).all()


DOORS = {
    "average_log_expression": lambda data, **o: cx.pseudobulk.compute_average_log_expression(
        data, perturbation_column=COLUMN, **o
    ),
    "pseudobulk": lambda data, **o: cx.pseudobulk.compute_pseudobulk_expression(
        data, perturbation_column=COLUMN, **o
    ),
    "sum": lambda data, **o: cx.pb.aggregate(data, groupby=COLUMN, **o),
    "mean_log1p": lambda data, **o: cx.pb.aggregate(data, groupby=COLUMN, method="mean_log1p", **o),
}


def tables(door: str, data: Any, output: Path, **options: Any) -> dict[str, np.ndarray]:
    DOORS[door](data, output_path=output, force=True, **options)
    return tables_of(output)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("expected")
    path = write_h5ad(folder / "screen.h5ad", *count_screen())
    return {door: tables(door, path, folder / "result.h5ad") for door in DOORS}


@pytest.mark.parametrize("door", DOORS)
def test_neither_file_nor_object_nor_chunks_change_a_bit(door, expected, tmp_path) -> None:
    for name, storage in FILES.items():
        path = write_h5ad(tmp_path / "screen.h5ad", *count_screen(), **storage)
        layer = storage.get("element", "X").removeprefix("layers/")
        more = {} if layer == "X" else {"layer": layer}
        found = tables(door, path, tmp_path / "result.h5ad", **more)
        assert_same_bits(found, expected[door]), name
    for name, make in OBJECTS.items():
        folder = tmp_path / name
        folder.mkdir()
        data = make(*count_screen(), folder)
        assert_same_bits(tables(door, data, tmp_path / "result.h5ad"), expected[door])
    for layout in ("csr", "csc", "dense"):
        path = write_h5ad(tmp_path / "screen.h5ad", *count_screen(), layout=layout)
        for chunk_size in (1, 7, 1000):
            found = tables(door, path, tmp_path / "result.h5ad", chunk_size=chunk_size)
            assert_same_bits(found, expected[door])


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("door", DOORS)
def test_smallest_budget_and_threads_change_no_bit(
    door, layout, expected, tmp_path, monkeypatch
) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", *count_screen(), layout=layout)
    for n in (1, 5):
        monkeypatch.setattr(cx.settings, "n_threads", n)
        assert_same_bits(tables(door, path, tmp_path / "result.h5ad"), expected[door])
    floors: list[int] = []
    monkeypatch.setattr(job, "require", lambda needed, *_: floors.append(needed))
    tables(door, path, tmp_path / "result.h5ad")
    monkeypatch.setattr(job, "working_memory", lambda _: floors[0])
    widths: list[int] = []
    panels = totals.Totals.panels

    def watched(self, width, *rest, **more):
        widths.append(width)
        yield from panels(self, width, *rest, **more)

    monkeypatch.setattr(totals.Totals, "panels", watched)
    assert_same_bits(tables(door, path, tmp_path / "result.h5ad"), expected[door])
    assert widths == [1]
    monkeypatch.undo()
    with pytest.raises(MemoryBudgetError, match="needs at least"):
        tables(door, path, tmp_path / "result.h5ad", memory_limit_gb=0.001)


@pytest.mark.parametrize(("layout", "width"), [("csr", 13), ("csr", 7), ("csc", 1)])
def test_interrupted_run_goes_on_to_the_same_bits(
    layout, width, expected, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(MatrixSource.native_blocks.__kwdefaults__, "max_values", 80)
    path = write_h5ad(tmp_path / "screen.h5ad", *count_screen(), layout=layout)
    output = tmp_path / "result.h5ad"
    monkeypatch.setattr(partial_unit.PartialUnit.__init__, "__defaults__", (-1.0,))
    monkeypatch.setattr(job, "_panel_width", lambda *_: width)
    name = "add_genes" if layout == "csc" else "add_cells"
    add = getattr(totals, name)
    begun: list[int] = []

    def stopping(*arguments: Any) -> None:
        if len(begun) == 3:
            raise KeyboardInterrupt
        begun.append(arguments[1].start)
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(totals, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            DOORS["average_log_expression"](path, output_path=output)
    assert not output.exists()
    seen: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(totals, name, lambda *a: (seen.append(a[1].start), add(*a)))
        DOORS["average_log_expression"](path, output_path=output, resume=True)
    assert seen[0] > 0, "what had been added is not added again"
    assert_same_bits(tables_of(output), expected["average_log_expression"])
    assert [
        p.name for p in tmp_path.iterdir() if p.name.startswith(".") or "progress" in p.name
    ] == []


@pytest.mark.parametrize("widths", [(5, 13), (13, 5)])
def test_interrupted_run_goes_on_with_another_budget(
    widths, expected, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(MatrixSource.native_blocks.__kwdefaults__, "max_values", 80)
    path = write_h5ad(tmp_path / "screen.h5ad", *count_screen())
    output = tmp_path / "result.h5ad"
    monkeypatch.setattr(partial_unit.PartialUnit.__init__, "__defaults__", (-1.0,))
    add, begun = totals.add_cells, []

    def stopping(*arguments: Any) -> None:
        if arguments[5] == 5 or (len(begun) == 3 and widths[0] == 13):  # first gene of a panel
            raise KeyboardInterrupt
        begun.append(0)
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(totals, "add_cells", stopping)
        patch.setattr(job, "_panel_width", lambda *_: widths[0])
        with pytest.raises(KeyboardInterrupt):
            DOORS["sum"](path, output_path=output)
    monkeypatch.setattr(job, "_panel_width", lambda *_: widths[1])
    DOORS["sum"](path, output_path=output, resume=True)
    assert_same_bits(tables_of(output), expected["sum"])


def test_partial_sums_of_other_parameters_are_refused(tmp_path, monkeypatch, small_reads) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", *count_screen())
    output = tmp_path / "result.h5ad"
    monkeypatch.setattr(partial_unit.PartialUnit.__init__, "__defaults__", (-1.0,))
    add, begun = totals.add_cells, []

    def stopping(*arguments: Any) -> None:
        if len(begun) == 3:
            raise KeyboardInterrupt
        begun.append(0)
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(totals, "add_cells", stopping)
        with pytest.raises(KeyboardInterrupt):
            DOORS["sum"](path, output_path=output)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        DOORS["sum"](path, output_path=output, resume=True, min_cells=2)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_values_that_are_no_counts(layout: str, tmp_path: Path) -> None:
    values, labels = count_screen()
    logs = np.log1p(values * 1e4 / values.sum(axis=1, keepdims=True))
    path = write_h5ad(tmp_path / "logs.h5ad", logs, labels, layout=layout, dtype="f8")
    for door in ("sum", "pseudobulk"):
        with pytest.raises(InputError, match=r"holds .* at cell 'cell.*needs counts"):
            tables(door, path, tmp_path / "result.h5ad")
    with pytest.warns(CrispyxWarning, match="taken to be log-normalized"):
        found = tables("average_log_expression", path, tmp_path / "result.h5ad")
    counts = write_h5ad(tmp_path / "counts.h5ad", values, labels, layout=layout)
    expected = tables("average_log_expression", counts, tmp_path / "result.h5ad")
    # NumPy's log1p and the C library's differ in the last bit.
    np.testing.assert_allclose(found["X"], expected["X"], rtol=1e-12, atol=1e-14)
    path = write_h5ad(tmp_path / "negative.h5ad", -values, labels, layout=layout)
    for door in DOORS:
        with pytest.raises(InputError, match="holds -"):
            tables(door, path, tmp_path / "result.h5ad")


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_fraction_in_the_last_cell_of_a_group_decides_for_all(
    layout, tmp_path, small_reads
) -> None:
    values, labels = count_screen()
    assert labels[-2] is not None
    values[-2, -1] = 0.5
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout, dtype="f8")
    with pytest.warns(CrispyxWarning, match="does not hold counts"):
        found = tables("average_log_expression", path, tmp_path / "result.h5ad")
    label = np.array(labels)
    mean = values[label == "KLF1"].mean(axis=0)
    np.testing.assert_allclose(found["perturbation_mean"][0], mean, rtol=1e-14)


def test_count_that_floating_point_cannot_hold_is_refused(tmp_path: Path) -> None:
    values, labels = count_screen()
    values[1, 0] = 1e17
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels, dtype="f8")
    with pytest.raises(InputError, match="above 2\\^53"):
        tables("sum", path, tmp_path / "result.h5ad")


def test_arguments_are_checked_before_work_starts(path: Path) -> None:
    with pytest.raises(InputError, match="choose one of"):
        cx.pb.aggregate(path, groupby=COLUMN, method="median")
    with pytest.raises(InputError, match="one obs column or several different ones"):
        cx.pb.aggregate(path, groupby=[COLUMN, COLUMN])
    with pytest.raises(MissingColumnError, match="lane"):
        cx.pb.effects(path, perturbation_column=COLUMN, batch_column="lane")
    with pytest.raises(InputError, match="baseline_count"):
        cx.pb.pseudobulk(path, perturbation_column=COLUMN, baseline_count=0)
    with pytest.raises(InputError, match="another control for every"):
        cx.pb.pseudobulk(path, perturbation_column=COLUMN, control_label="rest")
    with pytest.raises(InputError, match="choose 'mean_log1p' or 'log_mean'"):
        cx.pb.normalized_effects(path, perturbation_column=COLUMN, method="sum")
    with pytest.raises(InputError, match="lower min_cells"):
        cx.pb.effects(path, perturbation_column=COLUMN, min_cells=100)


def test_result_is_reloaded_recomputed_or_protected(path: Path, monkeypatch) -> None:
    first = cx.pb.aggregate(path, groupby=COLUMN)
    monkeypatch.setattr(totals, "add_cells", None)
    assert cx.pb.aggregate(path, groupby=COLUMN).path == first.path
    monkeypatch.undo()
    with pytest.warns(CrispyxWarning, match="computed again"):
        cx.pb.aggregate(path, groupby=COLUMN, min_cells=1)
    other = path.with_name("other.h5ad")
    screen().write_h5ad(other)
    with pytest.raises(OutputExistsError, match="force=True"):
        cx.pb.aggregate(other, groupby=COLUMN)


def test_perturbations_become_the_rows_in_the_order_asked_for(path: Path) -> None:
    found = read(
        cx.pb.average_log_expression(
            path, perturbation_column=COLUMN, perturbations=["MYC", "KLF1"]
        )
    )
    whole = read(cx.pb.average_log_expression(path, perturbation_column=COLUMN, data_name="all"))
    assert found.obs_names.tolist() == ["MYC", "KLF1"]
    np.testing.assert_array_equal(found.X, whole[["MYC", "KLF1"]].X)


def test_replicate_profiles_of_a_real_screen_add_up(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "papalexi_eccite_299genes.h5ad"
    found = read(cx.pb.aggregate(source, groupby=["perturbation", "bio_rep"], output_dir=tmp_path))
    with h5py.File(source) as file:
        total = int(file["X/data"][()].sum(dtype=np.int64))
    assert found.X.sum() == total
    assert found.obs["n_cells"].sum() == 16_192
    assert set(found.obs["bio_rep"]) == {"rep_1", "rep_2", "rep_3"}


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_cells_of_no_group_decide_nothing(layout: str, tmp_path: Path) -> None:
    values, labels = count_screen()
    expected = tables(
        "average_log_expression",
        write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout),
        tmp_path / "result.h5ad",
    )
    values[3, 5] = 0.5  # a cell without a label
    assert labels[3] is None
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout, dtype="f8")
    found = tables("average_log_expression", path, tmp_path / "result.h5ad")
    assert_same_bits(found, expected)
    tables("sum", path, tmp_path / "result.h5ad")


@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_few_perturbations_of_a_sorted_file_are_read_alone(
    layout: str, tmp_path: Path, monkeypatch
) -> None:
    values, labels = count_screen()
    order = np.argsort([label or "zzz" for label in labels], kind="stable")
    values, labels = values[order], [labels[i] for i in order]
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout)
    options = {"perturbations": ["GATA1"], "control_label": "control"}
    expected = tables("pseudobulk", path, tmp_path / "result.h5ad", **options)
    read: list[int] = []
    blocks = MatrixSource.native_blocks

    def watched(self, *rest, **more):
        for block in blocks(self, *rest, **more):
            read.extend(range(block.start, block.stop))
            yield block

    monkeypatch.setattr(MatrixSource, "native_blocks", watched)
    monkeypatch.setattr(kernel_layout, "GAP", 2)
    assert_same_bits(tables("pseudobulk", path, tmp_path / "result.h5ad", **options), expected)
    assert {labels[i] for i in read} == {"GATA1", "control"}
