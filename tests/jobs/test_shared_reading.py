"""Whoever reads ranges of the input, the result has the bits of a run in one process."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures import ThreadPoolExecutor as Threads
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from layouts import COLUMN, assert_same_bits, count_screen, log_screen, write_h5ad

import crispyx as cx
from crispyx._jobs import ranges, shared_input
from crispyx.errors import CrispyxWarning, InputError
from crispyx.pseudobulk import job, totals

LAYOUTS = ("csr", "csc", "dense")


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_input, "LEAST_VALUES", 60)


@pytest.fixture
def n_ranges(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record how many ranges each pass was cut into."""
    found: list[int] = []
    plain = ranges.in_ranges

    def recorded(function: Any, value: Any, edges: Any, *args: Any, **more: Any) -> list[Any]:
        found.append(len(edges) - 1)
        return plain(function, value, edges, *args, **more)

    monkeypatch.setattr(shared_input, "in_ranges", recorded)
    return found


def quietly(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        return call(*args, **options)


def summary(screen: Any, **options: Any) -> Any:
    # Thresholds at which cells, perturbations and genes are dropped.
    return quietly(
        cx.quality_control_summary,
        screen,
        perturbation_column=COLUMN,
        min_genes=8,
        min_cells_per_perturbation=9,
        min_cells_per_gene=15,
        **options,
    )


@pytest.mark.parametrize("delta", [0.0, 1.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_counts_of_quality_control(
    layout: str, delta: float, n_ranges: list[int], tmp_path: Path
) -> None:
    values, labels = count_screen()
    poor = [i for i, label in enumerate(labels) if label == "KLF1"][8:]
    values[poor, 4:] = 0  # with them the perturbation is large enough, without it is not
    screen = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout)
    here = summary(screen, delta_threshold=delta, output_path=tmp_path / "here.h5ad")
    assert not n_ranges
    with Threads(2) as pool:
        there = summary(
            screen, delta_threshold=delta, output_path=tmp_path / "there.h5ad", executor=pool
        )
    assert min(n_ranges) > 1
    assert len(n_ranges) == 2
    assert 0 < here.cell_mask.sum() < len(here.cell_mask)
    assert 0 < here.gene_mask.sum() < len(here.gene_mask)
    for name in ("cell_mask", "gene_mask", "cell_gene_counts", "gene_cell_counts"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    assert there.perturbation_keep == here.perturbation_keep
    matrices = [anndata.read_h5ad(tmp_path / f"{name}.h5ad").X for name in ("there", "here")]
    assert_same_bits(
        *({"X": np.asarray(X if layout == "dense" else X.todense())} for X in matrices)
    )
    assert {path.name for path in tmp_path.iterdir()} == {"screen.h5ad", "here.h5ad", "there.h5ad"}


def test_processes_change_no_bit(processes: Executor, n_ranges: list[int], tmp_path: Path) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *count_screen())
    here, there = summary(screen), summary(screen, executor=processes)
    np.testing.assert_array_equal(there.cell_gene_counts, here.cell_gene_counts)
    np.testing.assert_array_equal(there.gene_cell_counts, here.gene_cell_counts)
    require_same_profiles(screen, "means", processes)
    assert min(n_ranges) > 1


def test_values_that_are_no_counts_are_named_by_whoever_reads_them(tmp_path: Path) -> None:
    values, labels = count_screen()
    values[40, 4] = -3
    screen = write_h5ad(tmp_path / "screen.h5ad", values, labels)
    with Threads(2) as pool, pytest.raises(InputError, match=r"holds -3 at cell 'cell40'"):
        summary(screen, executor=pool)


def test_input_that_changed_is_refused(tmp_path: Path) -> None:
    class Changing(Threads):
        def submit(self, *args: Any, **more: Any) -> Any:
            screen.touch()
            return super().submit(*args, **more)

    screen = write_h5ad(tmp_path / "screen.h5ad", *count_screen())
    with Changing(1) as pool, pytest.raises(InputError, match="not what the run began with"):
        summary(screen, executor=pool)


def test_executor_that_a_call_names_needs_a_file(tmp_path: Path) -> None:
    values, labels = count_screen()
    adata = anndata.AnnData(values, obs={COLUMN: labels})
    with Threads(1) as pool, pytest.raises(InputError, match="other processes cannot see"):
        summary(adata, executor=pool)


def test_address_is_refused_where_a_call_names_an_executor() -> None:
    with Threads(1) as pool, pytest.raises(InputError, match="is an address"):
        summary("s3://bucket/screen.zarr", executor=pool)


def test_executor_of_the_session_leaves_data_in_memory_to_this_process(
    monkeypatch: pytest.MonkeyPatch, n_ranges: list[int], tmp_path: Path
) -> None:
    values, labels = count_screen()
    adata = anndata.AnnData(values, obs={COLUMN: [label or "MYC" for label in labels]})
    expected = summary(adata)
    with Threads(1) as pool:
        monkeypatch.setattr(cx.settings, "_executor", pool)
        with pytest.warns(CrispyxWarning, match=r"settings\.executor is passed over") as caught:
            found = cx.quality_control_summary(
                adata,
                perturbation_column=COLUMN,
                min_genes=8,
                min_cells_per_perturbation=9,
                min_cells_per_gene=15,
            )
    assert caught[0].filename == __file__
    assert not n_ranges
    np.testing.assert_array_equal(found.cell_gene_counts, expected.cell_gene_counts)


PROFILES: dict[str, Callable[..., Any]] = {
    "sums": lambda data, **more: cx.pb.aggregate(data, groupby=COLUMN, **more),
    "bootstrap": lambda data, **more: cx.pb.aggregate(
        data, groupby=COLUMN, bootstrap_size=20, **more
    ),
    "means": lambda data, **more: cx.pb.aggregate(
        data, groupby=COLUMN, method="mean_log1p", **more
    ),
    "effects": lambda data, **more: cx.pb.effects(data, perturbation_column=COLUMN, **more),
    "log of mean": lambda data, **more: cx.pb.normalized_effects(
        data, perturbation_column=COLUMN, method="log_mean", **more
    ),
    "mean of logs": lambda data, **more: cx.pb.average_log_expression(
        data, perturbation_column=COLUMN, **more
    ),
    "pseudobulk": lambda data, **more: cx.pb.pseudobulk(data, perturbation_column=COLUMN, **more),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", PROFILES)
def test_profiles_of_counts(name: str, layout: str, n_ranges: list[int], tmp_path: Path) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *count_screen(), layout=layout)
    require_same_profiles(screen, name)
    assert min(n_ranges) > 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["means", "effects", "mean of logs"])
def test_profiles_of_other_values(
    name: str, layout: str, n_ranges: list[int], tmp_path: Path
) -> None:
    values, labels = count_screen()
    values[33, 5] = 1.7  # known to one range of genes only, or late
    screen = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout)
    require_same_profiles(screen, name)
    assert min(n_ranges) > 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["sums", "means"])
def test_profiles_in_panels(
    name: str, layout: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *count_screen(), layout=layout)
    monkeypatch.setattr(job, "_panel_width", lambda *_: 5)
    require_same_profiles(screen, name)


def require_same_profiles(screen: Path, name: str, pool: Executor | None = None) -> None:
    outputs = [screen.with_name(f"{who}.h5ad") for who in ("here", "there")]
    with Threads(2) as threads:
        for output, executor in zip(outputs, (None, pool or threads), strict=True):
            quietly(PROFILES[name], screen, output_path=output, executor=executor)
    here, there = map(whole_file, outputs)
    assert_same_bits(there, here)
    assert {path.name for path in screen.parent.iterdir()} == {
        "screen.h5ad",
        "here.h5ad",
        "there.h5ad",
    }


def whole_file(path: Path) -> dict[str, np.ndarray]:
    adata = anndata.read_h5ad(path)
    found = {"X": adata.X, **adata.layers}
    return found | {key: value for key, value in adata.uns.items() if key.startswith("control")}


def test_sum_that_is_no_integer_is_refused_by_whoever_reads_it(tmp_path: Path) -> None:
    values, labels = count_screen()
    values[40, 4] = 0.5
    screen = write_h5ad(tmp_path / "screen.h5ad", values, labels)
    with Threads(2) as pool, pytest.raises(InputError, match="cell40"):
        quietly(PROFILES["sums"], screen, output_path=tmp_path / "out.h5ad", executor=pool)


def test_totals_too_large_together_are_refused(monkeypatch, tmp_path: Path) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *count_screen())
    monkeypatch.setattr(totals, "LARGEST_TOTAL", int(count_screen()[0].sum()) - 1)
    with Threads(2) as pool, pytest.raises(InputError, match="all counts together"):
        quietly(PROFILES["sums"], screen, output_path=tmp_path / "out.h5ad", executor=pool)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["sparse_cov", "incremental"])
def test_principal_components(
    method: str, layout: str, n_ranges: list[int], tmp_path: Path
) -> None:
    values, labels = log_screen(90, 23)
    found = []
    for name in ("here", "there"):
        screen = write_h5ad(tmp_path / f"{name}.h5ad", values, labels, layout=layout)
        with Threads(3) as pool:
            executor = pool if name == "there" else None
            cx.pp.pca(screen, n_comps=5, method=method, executor=executor)
        adata = anndata.read_h5ad(screen)
        parts = (adata.obsm["X_pca"], adata.varm["PCs"], adata.uns["pca"]["variance"])
        found.append({str(k): part for k, part in enumerate(parts)})
    assert_same_bits(*found)
    assert n_ranges == ([3] if method == "sparse_cov" and layout != "csc" else [])


def test_file_that_processes_have_read_can_be_changed_in_place(
    processes: Executor, tmp_path: Path
) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *count_screen())
    summary(screen, executor=processes)
    quietly(cx.pp.pca, screen, n_comps=3, executor=processes)
    assert anndata.read_h5ad(screen).obsm["X_pca"].shape == (61, 3)
