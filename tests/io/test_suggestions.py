"""Columns, thresholds and sizes that are suggested follow the documented rules."""

from __future__ import annotations

import doctest
import logging
from pathlib import Path
from typing import Any

import anndata
import layouts
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx as cx
from crispyx.data import (
    calculate_adaptive_qc_thresholds,
    calculate_nb_glm_chunk_size,
    calculate_optimal_chunk_size,
    calculate_optimal_gene_chunk_size,
    calculate_pca_chunk_size,
    calculate_wilcoxon_chunk_size,
    chunk_sizes,
    detect_gene_symbol_column,
    detect_perturbation_column,
    infer_columns,
    overlap,
)
from crispyx.errors import InputError


@pytest.mark.parametrize("module", [chunk_sizes, overlap])
def test_examples_of_the_docstrings_hold(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


SIZES = [
    calculate_optimal_chunk_size,
    calculate_optimal_gene_chunk_size,
    calculate_wilcoxon_chunk_size,
    calculate_nb_glm_chunk_size,
    lambda *sizes, **more: calculate_pca_chunk_size(*sizes, **more)[0],
]


@pytest.mark.parametrize("size", SIZES)
def test_more_memory_never_means_smaller_chunks_and_bounds_hold(size: Any) -> None:
    bounds = {"min_chunk": 16, "max_chunk": 128}
    found = [size(10**6, 30_000, available_memory_gb=gb, **bounds) for gb in (0.01, 1, 30, 10**4)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (16, 128)
    assert 16 <= size(1000, 1000, **bounds) <= 128, "memory is detected"
    for more in ({"available_memory_gb": 0}, {"min_chunk": 9, "max_chunk": 8}):
        with pytest.raises(InputError):
            size(1000, 1000, **more)
    with pytest.raises(InputError, match="n_obs is 0"):
        size(0, 1000)


def test_options_of_the_sizes_do_what_they_say() -> None:
    genes = calculate_optimal_gene_chunk_size
    wide = {"available_memory_gb": 8, "min_chunk": 1, "max_chunk": 10**6}
    assert genes(10**5, 1, safety_factor=4, **wide) == 2 * genes(10**5, 1, safety_factor=8, **wide)
    assert genes(10**5, 1, memory_fraction=1.0, **wide) == 2 * genes(10**5, 1, **wide)
    assert genes(10**5, 1, n_groups=10_000, **wide) < genes(10**5, 1, n_groups=1000, **wide)
    fit = calculate_nb_glm_chunk_size
    assert fit(10**6, 1, memory_limit_gb=4, **wide) == fit(10**6, 1, **{**wide, **_gb(4)})
    assert fit(10**6, 1, n_groups=10**5, **wide) < fit(10**6, 1, **wide)
    assert calculate_optimal_chunk_size(1, 1000, safety_factor=1, **wide) == 10**6
    assert calculate_pca_chunk_size(10**5, 8000, available_memory_gb=0.5)[1] == "incremental"
    for method in ("sparse_cov", "incremental"):
        assert calculate_pca_chunk_size(10**5, 8000, method=method)[1] == method
    with pytest.raises(InputError, match="method is 'x'"):
        calculate_pca_chunk_size(1, 1, method="x")
    with pytest.raises(InputError, match="memory_fraction is 2"):
        genes(1, 1, memory_fraction=2)


def _gb(n: float) -> dict[str, float]:
    return {"available_memory_gb": n}


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("mode", ["conservative", "aggressive"])
def test_thresholds_are_percentiles_of_the_data(layout: str, mode: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    counts = generator.binomial(1, generator.uniform(0, 0.6, 300), (400, 300)) * 1.0
    labels = ["control"] * 200 + [f"g{i}" for i in generator.integers(0, 12, 200)]
    path = layouts.write_h5ad(tmp_path / "in.h5ad", counts, labels, layout=layout)
    found = calculate_adaptive_qc_thresholds(path, layouts.COLUMN, mode)
    percentile = 10 if mode == "conservative" else 5
    per_label = pd.Series(labels).value_counts()
    assert found == {
        "min_genes": int(np.clip(np.median((counts > 0).sum(axis=1)) // 10, 5, 50)),
        "min_cells_per_perturbation": int(np.clip(np.percentile(per_label, percentile), 5, 50)),
        "min_cells_per_gene": int(
            np.clip(np.percentile((counts > 0).sum(axis=0), percentile), 5, 100)
        ),
        "chunk_size": 4096,
    }


def test_sampled_thresholds_are_the_same_at_every_call_and_for_every_layout(tmp_path) -> None:
    counts = np.random.default_rng(3).binomial(1, 0.4, (500, 90)) * 1.0
    labels = ["control", "A"] * 250
    found = [
        calculate_adaptive_qc_thresholds(
            layouts.write_h5ad(tmp_path / f"{layout}.h5ad", counts, labels, layout=layout),
            layouts.COLUMN,
            sample_size=50,
            chunk_size=chunk,
        )
        for layout in ("csr", "csc", "dense")
        for chunk in (7, 7)
    ]
    assert all(one == found[0] for one in found)
    assert found[0]["chunk_size"] == 7
    # About 20 of 50 cells express a gene: the sample is counted, not the whole.
    assert 5 < found[0]["min_cells_per_gene"] < 25
    for wrong in ({"mode": "x"}, {"sample_size": 0}, {"chunk_size": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            calculate_adaptive_qc_thresholds(tmp_path / "csr.h5ad", layouts.COLUMN, **wrong)


def annotated(obs: dict[str, Any], var: dict[str, Any]) -> anndata.AnnData:
    return anndata.AnnData(
        sp.csr_matrix(np.ones((6, 4))),
        obs=pd.DataFrame(obs, index=[f"c{i}" for i in range(6)]),
        var=pd.DataFrame(var, index=[f"ENSG{i:011d}" for i in range(4)]),
    )


def test_columns_are_found_by_name_kind_and_content(tmp_path, caplog) -> None:
    adata = annotated(
        {
            "batch": pd.Categorical(["a", "b"] * 3),
            "depth": np.arange(6.0),
            "odd name": ["ctrl", "A", "B"] * 2,
            "guide_id": ["g1", "g2", "g3"] * 2,
        },
        {
            "biotype": ["coding"] * 4,
            "id": [f"ENSG{i:011d}" for i in range(4)],
            "names": ["KLF1", "GATA1", "MYC", "TP53"],
            "length": np.arange(4),
        },
    )
    adata.write_h5ad(tmp_path / "in.h5ad")
    for data in (adata, tmp_path / "in.h5ad", cx.AnnData(tmp_path / "in.h5ad")):
        with caplog.at_level(logging.INFO, logger="crispyx.data"):
            # 3 + 2 + 1 for the usual name; 2 + 1 + 2 for the control.
            assert detect_perturbation_column(data) == "guide_id"
        assert "'guide_id' (detected)" in caplog.text
        assert detect_perturbation_column(data, control_label="a") == "guide_id"
        assert detect_gene_symbol_column(data) == "names"
        assert infer_columns(data, control_label="g1") == {
            "perturbation_column": "guide_id",
            "gene_name_column": "names",
        }
    del adata.obs["guide_id"]
    assert detect_perturbation_column(adata, verbose=False) == "odd name"
    assert detect_perturbation_column(adata, control_label="a") == "batch"
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="crispyx.data"):
        infer_columns(adata, verbose=False)
    assert caplog.text == ""


def test_nothing_is_found_where_nothing_is() -> None:
    adata = annotated({"depth": np.arange(6.0)}, {"biotype": ["coding"] * 4})
    assert detect_perturbation_column(adata, min_unique=7) is None
    assert detect_perturbation_column(adata, min_unique=6) == "depth"
    assert detect_gene_symbol_column(adata) is None
    empty = annotated({}, {})
    assert infer_columns(empty) == {"perturbation_column": None, "gene_name_column": None}


def test_overlap_counts_what_sets_share() -> None:
    sets = {"a": {1, 2, 3}, "b": [3, 3, 4], "none": [], "also none": set()}
    found = cx.compute_overlap(sets)
    assert found.set_sizes.to_dict() == {"a": 3, "b": 2, "none": 0, "also none": 0}
    assert found.count_matrix.loc["a"].tolist() == [3, 1, 0, 0]
    assert found.jaccard_matrix.loc["b"].tolist() == [0.25, 1, 0, 0]
    assert found.jaccard_matrix.loc["none"].tolist() == [0, 0, 0, 0]
    for metric, empty in (("count", "jaccard_matrix"), ("jaccard", "count_matrix")):
        one = cx.tl.compute_overlap(sets, metric=metric)
        assert getattr(one, empty).shape == (4, 0)
    with pytest.raises(InputError, match="metric is 'x'"):
        cx.compute_overlap(sets, metric="x")
    with pytest.raises(InputError, match="at least one"):
        cx.compute_overlap({})
