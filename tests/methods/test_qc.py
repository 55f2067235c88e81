"""Quality control: every strategy against the reference, scanpy, what is kept, bad input."""

from __future__ import annotations

import hashlib
import itertools
import logging
from pathlib import Path
from typing import Any

import anndata
import layouts
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import crispyx as cx
import reference.qc
from crispyx.errors import (
    CrispyxWarning,
    DiskSpaceError,
    InputError,
    MemoryBudgetError,
    MissingColumnError,
    MissingFileError,
    OutputExistsError,
)
from crispyx.qc import (
    QualityControlResult,
    _CellFilterResult,
    filter_cells_by_gene_count,
    filter_genes_by_cell_count,
    filter_perturbations_by_cell_count,
    quality_control_summary,
)
from crispyx.settings import settings, use_engine

LIMITS = {"min_genes": 14, "min_cells_per_perturbation": 13, "min_cells_per_gene": 30}
CACHES = ["memory", "memmap", "none"]


@st.composite
def labeled_counts(draw: Any) -> tuple[np.ndarray, list[str]]:
    n_cells, n_genes = draw(st.integers(2, 16)), draw(st.integers(1, 8))
    values = st.sampled_from([0, 0, 0, 1, 2, 200])
    size = n_cells * n_genes
    counts = np.array(draw(st.lists(values, min_size=size, max_size=size)))
    label = st.sampled_from(["KLF1", "control", "MYC", "GATA1"])
    labels = draw(st.lists(label, min_size=n_cells - 1, max_size=n_cells - 1))
    return counts.reshape(n_cells, n_genes), ["control", *labels]


def summary(data: Any, **options: Any) -> QualityControlResult:
    options = {"perturbation_column": "perturbation", **LIMITS, **options}
    return quality_control_summary(data, **options)


def assert_same(found: QualityControlResult, expected: Any) -> None:
    """Compare with another result, or with the reference's."""
    if isinstance(expected, QualityControlResult):
        per_cell, per_gene = expected.cell_gene_counts, expected.gene_cell_counts
    else:
        per_cell, per_gene = expected.genes_per_cell, expected.cells_per_gene
    np.testing.assert_array_equal(found.cell_mask, expected.cell_mask)
    np.testing.assert_array_equal(found.gene_mask, expected.gene_mask)
    np.testing.assert_array_equal(found.cell_gene_counts, per_cell)
    np.testing.assert_array_equal(found.gene_cell_counts, per_gene)
    assert found.cell_mask.dtype == found.gene_mask.dtype == bool
    assert found.cell_gene_counts.dtype == found.gene_cell_counts.dtype == np.int64
    assert list(found.perturbation_keep.items()) == list(expected.perturbation_keep.items())


@pytest.fixture(scope="module")
def screen() -> tuple[np.ndarray, list[str]]:
    counts, labels = layouts.count_screen(n_cells=90, n_genes=17)
    return counts, ["control" if label is None else label for label in labels]


@pytest.fixture
def path(tmp_path: Path, screen: Any) -> Path:
    return layouts.write_h5ad(tmp_path / "screen.h5ad", *screen)


@pytest.fixture
def packed(tmp_path: Path, screen: Any) -> Path:
    """Return a file that must be decompressed, so that a scratch file pays."""
    return layouts.write_h5ad(tmp_path / "screen.h5ad", *screen, compression="gzip")


@pytest.mark.filterwarnings("ignore::crispyx.errors.CrispyxWarning")
@given(
    data=labeled_counts(),
    limits=st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 4)),
    layout=st.sampled_from(["csr", "csc", "dense"]),
    dtype=st.sampled_from(["u1", "u2", "i4", "i8", "f4", "f8"]),
    unsorted=st.booleans(),
    stored_zeros=st.booleans(),
    index=st.sampled_from(["i4", "i8"]),
    label_kind=st.sampled_from(["categories", "anndata 0.7", "text", "unused categories"]),
    running=st.fixed_dictionaries(
        {
            "cache_mode": st.sampled_from(CACHES),
            "delta_threshold": st.sampled_from([0.0, 0.3, 1.0]),
            "force_streaming": st.booleans(),
            "chunk_size": st.sampled_from([None, 1, 3, 100]),
        }
    ),
)
def test_every_strategy_gives_the_definition(
    tmp_path_factory: pytest.TempPathFactory,
    data: tuple[np.ndarray, list[str]],
    limits: tuple[int, int, int],
    layout: str,
    dtype: str,
    label_kind: str,
    running: dict[str, Any],
    **storage: Any,
) -> None:
    counts, labels = data
    storage = {} if layout == "dense" else storage
    path = layouts.write_h5ad(
        tmp_path_factory.mktemp("qc") / "in.h5ad",
        counts,
        labels,
        layout=layout,
        dtype=dtype,
        label_kind=label_kind,
        **storage,
    )
    expected = reference.qc.quality_control(counts, labels, "control", *limits)
    options = dict(zip(LIMITS, limits, strict=True), **running, control_label="control")
    if not expected.cell_mask.any() or not expected.gene_mask.any():
        with pytest.raises(InputError, match=r"drops (all|every)"):
            summary(path, **options)
        return
    assert_same(summary(path, **options), expected)


@pytest.mark.parametrize("form", sorted(name for name in layouts.FILES if "layer" not in name))
@pytest.mark.parametrize("force_streaming", [True, False])
def test_every_form_of_a_file_gives_the_definition(
    tmp_path: Path, screen: Any, form: str, force_streaming: bool
) -> None:
    expected = reference.qc.quality_control(*screen, "control", *LIMITS.values())
    assert 0 < expected.cell_mask.sum() < 90, "the thresholds must drop and keep something"
    assert 0 < expected.gene_mask.sum() < 17
    assert set(expected.perturbation_keep.values()) == {True, False}
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, **layouts.FILES[form])
    assert_same(summary(path, force_streaming=force_streaming, chunk_size=7), expected)


@pytest.mark.parametrize("kind", sorted(set(layouts.OBJECTS) - {"memory view"}))
def test_every_object_gives_the_definition(tmp_path: Path, screen: Any, kind: str) -> None:
    expected = reference.qc.quality_control(*screen, "control", *LIMITS.values())
    assert_same(summary(layouts.OBJECTS[kind](*screen, tmp_path)), expected)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_reference_engine_runs_the_same_calls(tmp_path: Path, screen: Any, layout: str) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout=layout)

    def everything() -> list[Any]:
        mask, table = filter_perturbations_by_cell_count(
            path, perturbation_column="perturbation", min_cells=20, return_counts=True
        )
        return [
            *filter_cells_by_gene_count(path, min_genes=5, return_counts=True),
            *filter_genes_by_cell_count(path, min_cells=9, return_counts=True),
            *(mask, table.to_numpy()),
        ]

    compiled, compiled_summary = everything(), summary(path)
    with use_engine("reference"):
        for found, expected in zip(everything(), compiled, strict=True):
            np.testing.assert_array_equal(found, expected)
        assert_same(summary(path, chunk_size=11), compiled_summary)


def test_reference_engine_is_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise LookupError("the reference was called")

    monkeypatch.setattr(reference.qc, "genes_per_cell", fail)
    filter_cells_by_gene_count(path)
    with use_engine("reference"), pytest.raises(LookupError):
        filter_cells_by_gene_count(path)


def test_thresholds_are_inclusive(path: Path) -> None:
    _, per_cell = filter_cells_by_gene_count(path, return_counts=True)
    for threshold in (per_cell.min(), int(np.median(per_cell)), per_cell.max()):
        mask = filter_cells_by_gene_count(path, min_genes=int(threshold))
        np.testing.assert_array_equal(mask, per_cell >= threshold)
        assert mask.any()
    _, per_gene = filter_genes_by_cell_count(path, return_counts=True)
    assert filter_genes_by_cell_count(path, min_cells=int(per_gene.max())).any()


def test_stored_zero_is_not_expression(tmp_path: Path, screen: Any) -> None:
    counts, labels = screen
    path = layouts.write_h5ad(tmp_path / "zeros.h5ad", counts, labels, stored_zeros=True)
    full = filter_cells_by_gene_count(path, return_full_result=True)
    np.testing.assert_array_equal(full.gene_counts_per_cell, (counts > 0).sum(axis=1))
    np.testing.assert_array_equal(full.gene_cell_counts_all, (counts > 0).sum(axis=0))


def test_filter_of_cells_returns_what_is_asked_for(path: Path, screen: Any) -> None:
    expressed = screen[0] > 0
    mask = filter_cells_by_gene_count(path, min_genes=5)
    np.testing.assert_array_equal(mask, expressed.sum(axis=1) >= 5)
    assert mask.dtype == bool
    again, counts = filter_cells_by_gene_count(path, min_genes=5, return_counts=True, chunk_size=4)
    np.testing.assert_array_equal(again, mask)
    np.testing.assert_array_equal(counts, expressed.sum(axis=1))
    assert counts.dtype == np.int64
    full = filter_cells_by_gene_count(
        path, min_genes=5, return_counts=True, return_full_result=True
    )
    assert isinstance(full, _CellFilterResult)
    np.testing.assert_array_equal(full.cell_mask, mask)
    np.testing.assert_array_equal(full.gene_cell_counts_all, expressed.sum(axis=0))
    assert full.gene_cell_counts_all.dtype == np.int64


def test_filter_of_genes_counts_in_the_given_cells(path: Path, screen: Any) -> None:
    expressed = screen[0] > 0
    cells = np.arange(90) % 3 == 0
    for use, options in [(cells, {"cell_mask": cells}), (np.ones(90, bool), {})]:
        mask, counts = filter_genes_by_cell_count(
            path, min_cells=9, return_counts=True, chunk_size=8, **options
        )
        np.testing.assert_array_equal(counts, expressed[use].sum(axis=0))
        np.testing.assert_array_equal(mask, counts >= 9)


def test_filter_of_perturbations_keeps_large_groups_and_the_control(tmp_path: Path) -> None:
    labels = ["KLF1"] * 5 + ["control"] * 2 + ["MYC"] * 3 + [None] * 2
    path = layouts.write_h5ad(tmp_path / "in.h5ad", np.ones((12, 2)), labels)
    with pytest.warns(CrispyxWarning, match=r"2 of 12 cells have no label .*in\.h5ad"):
        mask, table = filter_perturbations_by_cell_count(
            path, perturbation_column="perturbation", min_cells=4, return_counts=True
        )
    np.testing.assert_array_equal(mask, [label in ("KLF1", "control") for label in labels])
    expected = pd.Series({"KLF1": 5, "MYC": 3, "control": 2}, name="count", dtype=np.int64)
    pd.testing.assert_series_equal(table, expected)
    base = np.array([True] * 3 + [False] * 2 + [True] * 5 + [False] * 2)
    with pytest.warns(CrispyxWarning, match="no label"):
        mask, table = filter_perturbations_by_cell_count(
            path,
            perturbation_column="perturbation",
            min_cells=3,
            base_mask=base,
            return_counts=True,
        )
    np.testing.assert_array_equal(mask, base)
    assert table.to_dict() == {"KLF1": 3, "MYC": 3, "control": 2}


def test_namespace_filters_return_masks(path: Path) -> None:
    np.testing.assert_array_equal(
        cx.pp.filter_cells(path, min_genes=5), filter_cells_by_gene_count(path, min_genes=5)
    )
    np.testing.assert_array_equal(
        cx.pp.filter_genes(path, min_cells=9), filter_genes_by_cell_count(path, min_cells=9)
    )
    np.testing.assert_array_equal(
        cx.pp.filter_perturbations(path, perturbation_column="perturbation", min_cells=20),
        filter_perturbations_by_cell_count(path, perturbation_column="perturbation", min_cells=20),
    )


def test_counts_agree_with_scanpy_on_a_real_screen(data_dir: Path) -> None:
    import scanpy as sc

    path = data_dir / "papalexi_eccite_299genes.h5ad"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    adata = anndata.read_h5ad(path)
    cells, per_cell = sc.pp.filter_cells(adata, min_genes=60, inplace=False)
    genes, per_gene = sc.pp.filter_genes(adata, min_cells=400, inplace=False)
    for found, expected in (
        (filter_cells_by_gene_count(path, min_genes=60, return_counts=True), (cells, per_cell)),
        (filter_genes_by_cell_count(path, min_cells=400, return_counts=True), (genes, per_gene)),
    ):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert 0 < cells.sum() < adata.n_obs
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_real_screen_gives_the_same_for_every_strategy(data_dir: Path) -> None:
    path = data_dir / "papalexi_eccite_299genes.h5ad"
    limits = {"min_genes": 60, "min_cells_per_perturbation": 300, "min_cells_per_gene": 400}
    expected = summary(path, **limits)
    adata = anndata.read_h5ad(path)
    by_hand = reference.qc.quality_control(
        adata.X.toarray(), adata.obs["perturbation"].astype(str), "non-targeting", *limits.values()
    )
    assert_same(expected, by_hand)
    for cache, delta in itertools.product(CACHES, (0.0, 1.0)):
        found = summary(
            path,
            **limits,
            cache_mode=cache,
            delta_threshold=delta,
            force_streaming=True,
            chunk_size=3001,
        )
        assert_same(found, expected)


def test_no_file_is_written_unless_asked_for(tmp_path: Path, path: Path) -> None:
    result = summary(path)
    assert result.filtered is None
    assert result.filtered_path is None
    assert [file.name for file in tmp_path.iterdir()] == ["screen.h5ad"]


def test_filtered_file_goes_where_it_is_asked_for(tmp_path: Path, path: Path) -> None:
    out = tmp_path / "out"
    result = summary(path, output_dir=out)
    assert isinstance(result.filtered, cx.AnnData)
    assert result.filtered_path == out / "crispyx_filtered.h5ad"
    assert result.filtered.shape == (result.cell_mask.sum(), result.gene_mask.sum())
    named = summary(path, output_dir=out, data_name="abc")
    assert named.filtered_path == out / "crispyx_abc_filtered.h5ad"
    exact = summary(path, output_path=tmp_path / "mine.h5ad")
    assert exact.filtered_path == tmp_path / "mine.h5ad"


def test_namespace_writes_beside_the_input_and_returns_the_wrapper(
    tmp_path: Path, path: Path
) -> None:
    filtered = cx.pp.qc_summary(path, perturbation_column="perturbation", **LIMITS)
    assert isinstance(filtered, cx.AnnData)
    assert filtered.path == tmp_path / "crispyx_filtered.h5ad"


def test_memory_mode_needs_no_streaming_and_small_budget_streams(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crispyx.qc import plan

    used = []
    plain = plan.ChunkCache
    monkeypatch.setattr(
        plan, "ChunkCache", lambda *args, **kw: used.append(args[1]) or plain(*args, **kw)
    )
    expected = summary(packed)
    assert used == ["memory"]
    for budget, cache in ((21_000, "memmap"), (1 << 40, "memory")):
        monkeypatch.setattr(plan, "working_memory", lambda _, budget=budget: budget)
        assert_same(summary(packed), expected)
        assert used[-1] == cache


def passes_after_the_first(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    from crispyx.qc import summary as module

    visited = []
    plain = module.count_expressed

    def recording(cache: Any, engine: Any, cells: Any = None, readers: Any = None) -> Any:
        visited.append(cells)
        return plain(cache, engine, cells, readers)

    monkeypatch.setattr(module, "count_expressed", recording)
    return visited


@pytest.mark.parametrize(("delta", "recounted"), [(0.0, "kept"), (1.0, "dropped")])
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_second_pass_visits_the_kept_or_the_dropped_cells_as_delta_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, delta: float, recounted: str
) -> None:
    # "B" has 3 cells, of which one expresses too little: 2 are dropped after they were seen.
    counts = np.ones((9, 4))
    counts[4, 1:] = counts[8, 1:] = 0
    labels = ["ctrl", "ctrl", "B", "B", "B", "A", "A", "A", "ctrl"]
    path = layouts.write_h5ad(tmp_path / "in.h5ad", counts, labels, layout=layout)
    visited = passes_after_the_first(monkeypatch)
    result = quality_control_summary(
        path,
        perturbation_column=layouts.COLUMN,
        min_genes=2,
        min_cells_per_perturbation=3,
        min_cells_per_gene=1,
        delta_threshold=delta,
    )
    assert result.cell_mask.tolist() == [1, 1, 0, 0, 0, 1, 1, 1, 0]
    assert result.gene_cell_counts.tolist() == [5, 5, 5, 5]
    late = np.zeros(9, dtype=bool)
    late[[2, 3]] = True
    second = visited[-1]
    if recounted == "kept":
        np.testing.assert_array_equal(second, result.cell_mask)
    else:
        np.testing.assert_array_equal(second, ~result.cell_mask if layout == "csc" else late)


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_one_pass_over_rows_is_enough_when_no_perturbation_shrinks_too_far(
    path: Path, monkeypatch: pytest.MonkeyPatch, delta: float
) -> None:
    visited = passes_after_the_first(monkeypatch)
    limits = {**LIMITS, "min_genes": 0, "min_cells_per_perturbation": 20}
    result = quality_control_summary(
        path, perturbation_column=layouts.COLUMN, delta_threshold=delta, **limits
    )
    assert not all(result.perturbation_keep.values())
    assert visited == []


def test_source_that_needs_no_decompressing_is_not_copied_to_a_scratch_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = summary(path)
    monkeypatch.setattr("crispyx._io.chunk_cache.tempfile.TemporaryFile", None)
    assert_same(summary(path, force_streaming=True, cache_mode="memmap"), expected)


def test_large_csc_is_streamed_by_columns(
    tmp_path: Path, screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crispyx.qc import plan

    path = layouts.write_h5ad(tmp_path / "csc.h5ad", *screen, layout="csc")
    used = []
    plain = plan.ChunkCache
    monkeypatch.setattr(
        plan, "ChunkCache", lambda *args, **kw: used.append(args[1]) or plain(*args, **kw)
    )
    summary(path, force_streaming=True)
    assert used == ["none"]


def test_budget_below_one_cell_is_an_error_that_names_the_floor(path: Path) -> None:
    with pytest.raises(MemoryBudgetError, match=r"quality control needs.*memory_limit_gb="):
        summary(path, memory_limit_gb=1e-6)


def test_scratch_file_is_removed_and_goes_where_settings_say(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    folders = []
    from crispyx._io import chunk_cache

    plain = chunk_cache.tempfile.TemporaryFile

    def recording(dir: Path) -> Any:
        folders.append(dir)
        return plain(dir=dir)

    monkeypatch.setattr(chunk_cache.tempfile, "TemporaryFile", recording)
    summary(packed, force_streaming=True, cache_mode="memmap", output_dir=tmp_path / "out")
    monkeypatch.setattr(settings, "_scratch_dir", scratch)
    summary(packed, force_streaming=True, cache_mode="memmap")
    assert folders == [tmp_path / "out", scratch]
    assert list(scratch.iterdir()) == []
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["crispyx_filtered.h5ad"]


def test_kept_numbers_are_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="crispyx.qc"):
        result = summary(path)
    assert f"kept {result.cell_mask.sum()} of 90 cells" in caplog.text


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("value", [-1.0, np.nan, -np.inf])
def test_value_that_is_no_count_is_named(
    tmp_path: Path, screen: Any, layout: str, value: float
) -> None:
    counts = screen[0].copy()
    counts[83, 15] = value
    path = layouts.write_h5ad(tmp_path / "in.h5ad", counts, screen[1], layout=layout)
    calls = [
        lambda: filter_cells_by_gene_count(path, chunk_size=5),
        lambda: filter_genes_by_cell_count(path, chunk_size=5),
        lambda: summary(path, output_dir=tmp_path, force_streaming=True),
        lambda: summary(path),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"in\.h5ad.*cell83.*row 83.*gene15.*15"):
            call()
    assert [file.name for file in tmp_path.iterdir()] == ["in.h5ad"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"min_genes": 18},
            r"min_genes=18 drops all 90 cells of .*screen\.h5ad.*expresses 1\d genes",
        ),
        ({"min_cells_per_gene": 91}, r"min_cells_per_gene=91 drops all 17 genes.*of the \d+ cells"),
        ({"min_genes": -1}, "min_genes is -1; give a whole number >= 0"),
        ({"min_cells_per_perturbation": 2.5}, r"min_cells_per_perturbation is 2\.5"),
        ({"min_cells_per_gene": None}, "min_cells_per_gene is None"),
        ({"cache_mode": "x"}, "cache_mode is 'x'; choose one of"),
        ({"delta_threshold": 1.5}, r"delta_threshold is 1\.5.*between 0 and 1"),
        ({"delta_threshold": np.nan}, "delta_threshold is nan"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"memory_limit_gb": -1}, "memory_limit_gb is -1"),
        (
            {"control_label": "NTC"},
            r"'NTC' is not in obs column 'perturbation'.*'control'.*control_label=",
        ),
    ],
)
def test_argument_that_cannot_work_is_refused(
    path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        summary(path, **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda path: summary(path, perturbation_column="nope"),
        lambda path: summary(path, gene_name_column="nope"),
        lambda path: filter_cells_by_gene_count(path, gene_name_column="nope"),
        lambda path: filter_genes_by_cell_count(path, gene_name_column="nope"),
        lambda path: filter_perturbations_by_cell_count(path, perturbation_column="nope"),
    ],
)
def test_missing_column_is_named_with_those_there(path: Path, call: Any) -> None:
    with pytest.raises(MissingColumnError, match=r"screen\.h5ad.*'nope'; it(s var)? has"):
        call(path)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones(89, bool), r"shape \(89,\) but .*screen\.h5ad has 90 cells"),
        (np.ones(90), "float64; give True or False"),
        (np.arange(90), "int64; give True or False"),
    ],
)
def test_mask_of_another_kind_is_refused(path: Path, mask: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        filter_genes_by_cell_count(path, cell_mask=mask)
    with pytest.raises(InputError, match=message):
        filter_perturbations_by_cell_count(path, perturbation_column="perturbation", base_mask=mask)


def test_control_is_inferred_or_asked_for(tmp_path: Path) -> None:
    counts = np.ones((6, 3))
    limits = dict.fromkeys(LIMITS, 0)
    none = layouts.write_h5ad(tmp_path / "none.h5ad", counts, ["KLF1", "MYC"] * 3)
    with pytest.raises(InputError, match="give control_label="):
        summary(none, **limits)
    both = layouts.write_h5ad(tmp_path / "both.h5ad", counts, ["CTRL", "non-targeting"] * 3)
    with pytest.raises(InputError, match=r"'CTRL', 'non-targeting'.*control_label="):
        summary(both, **limits)
    assert summary(both, **limits, control_label="CTRL").perturbation_keep["CTRL"]
    missing = layouts.write_h5ad(tmp_path / "missing.h5ad", counts, [None] * 6)
    with pytest.raises(InputError, match="holds no label"):
        summary(missing, **limits)


def test_cells_without_label_are_dropped_and_counted(tmp_path: Path) -> None:
    labels = ["control", None, "KLF1", "KLF1", None, "control"]
    path = layouts.write_h5ad(tmp_path / "in.h5ad", np.ones((6, 3)), labels)
    with pytest.warns(CrispyxWarning, match="2 of 6 cells have no label"):
        result = summary(path, **dict.fromkeys(LIMITS, 1))
    np.testing.assert_array_equal(result.cell_mask, [label is not None for label in labels])
    assert result.perturbation_keep == {"control": True, "KLF1": True}
    np.testing.assert_array_equal(result.gene_cell_counts, 4)


def test_losing_the_control_or_all_perturbations_is_said(tmp_path: Path) -> None:
    counts = np.ones((8, 3))
    counts[:4, 1:] = 0
    labels = ["control"] * 4 + ["KLF1"] * 4
    path = layouts.write_h5ad(tmp_path / "in.h5ad", counts, labels)
    limits = {"min_cells_per_perturbation": 1, "min_cells_per_gene": 1}
    with pytest.warns(CrispyxWarning, match="no control cell"):
        result = summary(path, min_genes=2, **limits)
    assert result.perturbation_keep == {"control": True, "KLF1": True}
    with pytest.warns(CrispyxWarning, match=r"leaves only the control 'control'.*'KLF1', has 4"):
        summary(path, min_genes=0, min_cells_per_perturbation=5, min_cells_per_gene=1)
    with pytest.raises(
        InputError, match=r"min_cells_per_perturbation=5 drops every.*'KLF1', has 4"
    ):
        summary(path, min_genes=2, min_cells_per_perturbation=5, min_cells_per_gene=1)


def test_missing_and_broken_inputs_are_named(tmp_path: Path, path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no\.h5ad"):
        summary(tmp_path / "no.h5ad")
    cut = tmp_path / "cut.h5ad"
    cut.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cut\.h5ad.*cut short"):
        summary(cut)
    empty = layouts.in_memory(np.zeros((0, 3)), [], sp.csr_matrix)
    with pytest.raises(InputError, match="0 cells and 3 genes"):
        summary(empty)


def test_same_run_leaves_its_file_alone_and_others_do_not_get_it(
    tmp_path: Path, path: Path, screen: Any
) -> None:
    output = summary(path, output_dir=tmp_path).filtered_path
    before = output.stat().st_mtime_ns
    again = summary(path, output_dir=tmp_path, force_streaming=True, cache_mode="none")
    assert output.stat().st_mtime_ns == before
    assert_same(again, summary(path))
    with pytest.warns(CrispyxWarning, match="min_genes 14 -> 13"):
        summary(path, output_dir=tmp_path, min_genes=13)
    other = layouts.write_h5ad(tmp_path / "other.h5ad", *screen)
    with pytest.raises(OutputExistsError, match=r"screen\.h5ad.*other\.h5ad.*data_name="):
        summary(other, output_dir=tmp_path)
    with pytest.raises(OutputExistsError, match="not a complete crispyx result"):
        summary(path, output_path=other)
    summary(other, output_dir=tmp_path, force=True)


def test_full_disk_is_seen_before_the_file_is_written(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(DiskSpaceError, match=r"crispyx_filtered\.h5ad' needs"):
        summary(packed, output_dir=tmp_path)
    with pytest.raises(DiskSpaceError, match=r"scratch_dir to another disk.*cache_mode='none'"):
        summary(packed, force_streaming=True)
    assert [file.name for file in tmp_path.iterdir()] == ["screen.h5ad"]
