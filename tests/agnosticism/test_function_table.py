"""Every streaming function gives what anndata, scanpy or NumPy give in memory, whatever it reads.

Counts that all number types hold, as CSR, CSC and dense matrices, in .h5ad files and zarr stores of
both formats, plain and sharded. A new function is one row of the table. Some pairs of container and
type are tried each time (see ``places``), all of them among the slow tests.
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from containers import CONTAINERS, LAYOUTS, N_CELLS, N_GENES, TYPES, screen, types_in
from layouts import COLUMN

import crispyx as cx
from crispyx import data
from crispyx.errors import CrispyxWarning
from reference.downsample_counts import downsampled

pytest.importorskip("zarr")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*holds counts.*:crispyx.errors.CrispyxWarning"),
    pytest.mark.filterwarnings("ignore:.*tests one arm.*:crispyx.errors.CrispyxWarning"),
    pytest.mark.filterwarnings("ignore:.*no Zarr V3 specification.*"),
]


# -- what each function gives, and what it should give, as dicts of arrays


def dense(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if sp.issparse(values) else values)


def slots(adata: anndata.AnnData) -> dict[str, np.ndarray]:
    return {
        "X": dense(adata.X),
        "cells": adata.obs_names.to_numpy(dtype=str),
        "labels": adata.obs[COLUMN].astype(str).to_numpy(dtype=str),
        "genes": adata.var_names.to_numpy(dtype=str),
        "layer": dense(adata.layers["twice"]),
        "obsm": np.asarray(adata.obsm["place"]),
        "obsp": dense(adata.obsp["near"]),
        "raw": dense(adata.raw.X),
        "uns": np.array(adata.uns["note"]["by"]),
    }


THRESHOLDS = {"min_genes": 3, "min_cells_per_perturbation": 5, "min_cells_per_gene": 30}


def filtered() -> anndata.AnnData:
    expected = screen()
    expected = expected[(expected.X > 0).sum(axis=1) >= 3]
    return expected[:, (expected.X > 0).sum(axis=0) >= 30].copy()


def logged() -> anndata.AnnData:
    expected = screen()
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    return expected


def ranked(adata: anndata.AnnData, method: str, **more: Any) -> dict[str, np.ndarray]:
    sc.tl.rank_genes_groups(
        adata, COLUMN, reference="control", method=method, use_raw=False, **more
    )
    tables = adata.uns["rank_genes_groups"]
    found = {}
    for group in ("KLF1", "MYC"):
        order = np.argsort([int(name[1:]) for name in tables["names"][group]])
        for name in ("scores", "pvals"):
            found[f"{group} {name}"] = np.asarray(tables[name][group], dtype=float)[order]
    return found


def statistics_of(result: cx.RankGenesGroupsResult) -> dict[str, np.ndarray]:
    return {
        f"{group} {name}": getattr(result, table)[result.groups.index(group)]
        for group in ("KLF1", "MYC")
        for name, table in (("scores", "statistics"), ("pvals", "pvalues"))
    }


def converted(convert: Callable[..., cx.AnnData], path: Path, folder: Path) -> dict[str, Any]:
    # A file that is stored so already is returned itself.
    return slots(convert(path, output_path=folder / "o.h5ad", verbose=False).to_memory())


def sorted_screen() -> anndata.AnnData:
    expected = screen()
    labels = expected.obs[COLUMN].astype(str).to_numpy()
    return expected[np.lexsort((labels, labels != "control"))].copy()


def summed() -> dict[str, np.ndarray]:
    sums = sc.get.aggregate(screen(), COLUMN, "sum")
    return {label: sums[label].layers["sum"][0] for label in ("KLF1", "MYC", "control")}


def aggregated(adata: anndata.AnnData) -> dict[str, np.ndarray]:
    return {label: dense(adata[label].X)[0] for label in ("KLF1", "MYC", "control")}


def chunks_of(path: Path, axis: int) -> dict[str, np.ndarray]:
    blocks = [dense(block) for _, block in data.iter_matrix_chunks(path, axis=axis, chunk_size=5)]
    return {"X": np.concatenate(blocks, axis=axis)}


def normalized() -> np.ndarray:
    counts = screen().X
    return np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True)))


def means(values: np.ndarray) -> dict[str, np.ndarray]:
    labels = screen().obs[COLUMN].astype(str).to_numpy()
    return {label: values[labels == label].mean(axis=0) for label in ("KLF1", "MYC", "control")}


def differences(of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {label: of[label] - of["control"] for label in ("KLF1", "MYC")}


def rows_of(adata: anndata.AnnData) -> dict[str, np.ndarray]:
    return {label: np.asarray(adata[label].X)[0] for label in ("KLF1", "MYC")}


def bulk() -> dict[str, np.ndarray]:
    counts = screen().X
    scaled = means(counts * (1e4 / counts.sum(axis=1, keepdims=True)))
    return differences({label: np.log1p(mean) for label, mean in scaled.items()})


def variances() -> dict[str, np.ndarray]:
    counts = screen().X
    singular = np.linalg.svd(counts - counts.mean(axis=0), compute_uv=False)
    return {"variance": singular[:3] ** 2 / (N_CELLS - 1)}


def of_negative_binomial(given: Any, folder: Path) -> dict[str, np.ndarray]:
    return statistics_of(cx.nb_glm_test(given, groupby=COLUMN, output_dir=folder, **EVERY_GENE))


def in_memory_negative_binomial() -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        return of_negative_binomial(screen(), Path(folder))


def subset(path: Path, folder: Path) -> dict[str, np.ndarray]:
    cells, genes = np.arange(N_CELLS) % 2 == 0, np.arange(N_GENES) > 0
    data.write_filtered_subset(
        path, output_path=folder / "o.h5ad", cell_mask=cells, gene_mask=genes
    )
    return slots(anndata.read_h5ad(folder / "o.h5ad"))


def ordered(path: Path, folder: Path) -> dict[str, np.ndarray]:
    made = data.sort_by_perturbation(path, COLUMN, "control", output_path=folder / "o.h5ad")
    return slots(anndata.read_h5ad(made))


def drawn(given: Any, folder: Path) -> anndata.AnnData:
    return cx.pp.subsample(given, 20, random_state=3, output_path=folder / "o.h5ad").to_memory()


def in_memory_drawn() -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        cells = drawn(screen(), Path(folder)).obs_names
    assert len(cells) == 20
    return slots(screen()[cells].copy())


def fewer_molecules() -> dict[str, np.ndarray]:
    expected = screen()
    expected.X = np.array(
        [downsampled(counts, 5, seed=3, cell=cell) for cell, counts in enumerate(expected.X)]
    )
    return slots(expected)


def put_together(adata: anndata.AnnData) -> dict[str, np.ndarray]:
    return {
        "X": dense(adata.X),
        "cells": adata.obs_names.to_numpy(dtype=str),
        "genes": adata.var_names.to_numpy(dtype=str),
        "labels": adata.obs[COLUMN].astype(str).to_numpy(dtype=str),
        "file": adata.obs["file"].to_numpy(dtype=str),
        "obsm": np.asarray(adata.obsm["place"]),
    }


def twice() -> dict[str, np.ndarray]:
    return put_together(
        anndata.concat([screen(), screen()], label="file", keys=["a", "b"], index_unique="-")
    )


def least_squares() -> dict[str, np.ndarray]:
    obs = screen().obs
    of_label = [obs[COLUMN] == label for label in ("KLF1", "MYC")]
    design = np.column_stack([np.ones(N_CELLS), *of_label, obs["depth"]]).astype(float)
    coefficients = np.linalg.lstsq(design, normalized(), rcond=None)[0]
    return {"KLF1": coefficients[1], "MYC": coefficients[2]}


def variable_genes() -> dict[str, np.ndarray]:
    table = sc.pp.highly_variable_genes(
        screen(), n_top_genes=4, flavor="seurat", n_bins=3, inplace=False
    )
    return {name: table[name].to_numpy() for name in VARIABILITY}


def kept_perturbations() -> np.ndarray:
    labels = screen().obs[COLUMN].astype(str).to_numpy()
    return np.isin(labels, ["control", *(k for k in ("KLF1", "MYC") if sum(labels == k) >= 12)])


EVERY_GENE = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0}
VARIABILITY = ("means", "dispersions", "dispersions_norm", "highly_variable")
BY = {"perturbation_column": COLUMN, "control_label": "control"}
ROUNDED = 2e-6  # to float32, there or here
Given = Callable[[Path, Path], dict[str, np.ndarray]]


class Row(NamedTuple):
    """What crispyx gives for (path, output folder), what it should give, relative tolerance."""

    given: Given
    expected: Callable[[], dict[str, np.ndarray]]
    rtol: float = 0
    containers: tuple[str, ...] = tuple(CONTAINERS)


FUNCTIONS = {
    "convert_to_csr": Row(
        lambda p, d: converted(cx.pp.convert_to_csr, p, d), lambda: slots(screen())
    ),
    "convert_to_csc": Row(
        lambda p, d: converted(cx.pp.convert_to_csc, p, d), lambda: slots(screen())
    ),
    "qc_summary": Row(
        lambda p, d: slots(
            cx.pp.qc_summary(p, perturbation_column=COLUMN, output_dir=d, **THRESHOLDS).to_memory()
        ),
        lambda: slots(filtered()),
    ),
    "filter_cells": Row(
        lambda p, d: {"kept": cx.pp.filter_cells(p, min_genes=3)},
        lambda: {"kept": sc.pp.filter_cells(screen(), min_genes=3, inplace=False)[0]},
    ),
    "filter_genes": Row(
        lambda p, d: {"kept": cx.pp.filter_genes(p, min_cells=30)},
        lambda: {"kept": sc.pp.filter_genes(screen(), min_cells=30, inplace=False)[0]},
    ),
    "filter_perturbations": Row(
        lambda p, d: {"kept": cx.pp.filter_perturbations(p, min_cells=12, **BY)},
        lambda: {"kept": kept_perturbations()},
    ),
    "write_filtered_subset": Row(subset, lambda: slots(screen()[::2, 1:].copy())),
    "normalize_total_log1p": Row(
        lambda p, d: slots(cx.pp.normalize_total_log1p(p, d / "o.h5ad", verbose=False).to_memory()),
        lambda: slots(logged()),
        ROUNDED,
    ),
    "sort_by_perturbation": Row(ordered, lambda: slots(sorted_screen())),
    "iter_matrix_chunks by cells": Row(lambda p, d: chunks_of(p, 0), lambda: {"X": screen().X}),
    "iter_matrix_chunks by genes": Row(lambda p, d: chunks_of(p, 1), lambda: {"X": screen().X}),
    "aggregate, sums": Row(
        lambda p, d: aggregated(
            cx.pb.aggregate(p, groupby=COLUMN, method="sum", output_dir=d).to_memory()
        ),
        summed,
    ),
    "aggregate, mean logs": Row(
        lambda p, d: aggregated(
            cx.pb.aggregate(p, groupby=COLUMN, method="mean_log1p", output_dir=d).to_memory()
        ),
        lambda: means(np.log1p(screen().X)),
        1e-12,
    ),
    "average_log_expression": Row(
        lambda p, d: rows_of(cx.pb.average_log_expression(p, output_dir=d, **BY).to_memory()),
        lambda: differences(means(normalized())),
        1e-12,
    ),
    "pseudobulk": Row(
        lambda p, d: rows_of(cx.pb.pseudobulk(p, output_dir=d, **BY).to_memory()), bulk, 1e-12
    ),
    "normalized_effects": Row(
        lambda p, d: rows_of(cx.pb.normalized_effects(p, output_dir=d, **BY).to_memory()),
        lambda: differences(means(normalized())),
        1e-12,
    ),
    "effects": Row(
        lambda p, d: rows_of(cx.pb.effects(p, output_dir=d, **BY).to_memory()),
        lambda: differences(means(np.log1p(screen().X))),
        1e-12,
    ),
    "pca": Row(
        lambda p, d: {
            "variance": np.asarray(
                cx.pp.pca(moved(p, d), n_comps=3, copy=True).to_memory().uns["pca"]["variance"]
            )[:3]
        },
        variances,
        1e-4,
    ),
    # scanpy's scores are float32, and so are its moments where its data are
    "wilcoxon_test": Row(
        lambda p, d: statistics_of(cx.wilcoxon_test(p, groupby=COLUMN, output_dir=d, **EVERY_GENE)),
        lambda: ranked(screen(), "wilcoxon", tie_correct=True),
        1e-5,
    ),
    "t_test": Row(
        lambda p, d: statistics_of(cx.t_test(p, groupby=COLUMN, output_dir=d, **EVERY_GENE)),
        lambda: ranked(logged(), "t-test"),
        1e-4,
    ),
    "nb_glm_test": Row(of_negative_binomial, in_memory_negative_binomial),
    "load_obs": Row(
        lambda p, d: {"depth": cx.load_obs(p)["depth"].to_numpy()},
        lambda: {"depth": screen().obs["depth"].to_numpy()},
    ),
    "load_var": Row(
        lambda p, d: {"kind": cx.load_var(p)["kind"].to_numpy(dtype=str)},
        lambda: {"kind": screen().var["kind"].to_numpy(dtype=str)},
    ),
    "subsample": Row(lambda p, d: slots(drawn(p, d)), in_memory_drawn),
    "downsample_counts": Row(
        lambda p, d: slots(
            cx.pp.downsample_counts(
                p, counts_per_cell=5, random_state=3, output_path=d / "o.h5ad"
            ).to_memory()
        ),
        fewer_molecules,
    ),
    "concat_h5ad": Row(
        lambda p, d: put_together(
            cx.pp.concat_h5ad([p, p], d / "o.h5ad", keys=["a", "b"], index_unique="-").to_memory()
        ),
        twice,
    ),
    "compress_h5ad": Row(
        lambda p, d: slots(data.compress_h5ad(p, d / "o.h5ad", level=1).to_memory()),
        lambda: slots(screen()),
        containers=("h5ad",),
    ),
    "highly_variable_genes": Row(
        lambda p, d: {
            name: column.to_numpy()
            for name, column in cx.pp.highly_variable_genes(
                p, n_top_genes=4, flavor="seurat", n_bins=3, cells="all", inplace=False
            ).items()
            if name in VARIABILITY
        },
        variable_genes,
        ROUNDED,
    ),
    "residual_effects": Row(
        lambda p, d: rows_of(
            cx.tl.residual_effects(p, covariates=["depth"], output_dir=d, **BY).to_memory()
        ),
        least_squares,
        1e-9,  # of the condition of the design
    ),
    "batch_process": Row(
        lambda p, d: {
            "sums": cx.tl.batch_process(
                p, lambda block: np.asarray(block.X.sum(axis=0)).ravel(), np.add, chunk_size=5
            )
        },
        lambda: {"sums": screen().X.sum(axis=0)},
    ),
}


def moved(path: Path, folder: Path) -> Path:
    """Return the path of a container of its own: a copy is written beside the input."""
    new = folder / path.name
    new.symlink_to(path, target_is_directory=path.is_dir())
    return new


@cache
def expected_of(name: str) -> dict[str, np.ndarray]:
    return FUNCTIONS[name].expected()


def assert_as_expected(name: str, path: Path, folder: Path) -> None:
    folder.mkdir()
    expected, rtol = expected_of(name), FUNCTIONS[name].rtol
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)  # counts, which these are
        found = FUNCTIONS[name].given(path, folder)
    assert found.keys() == expected.keys()
    for part, values in expected.items():
        where = f"{name}, {path.name}: {part}"
        if values.dtype.kind in "fiu":
            np.testing.assert_allclose(found[part], values, rtol=rtol, atol=rtol, err_msg=where)
        else:
            np.testing.assert_array_equal(found[part], values, err_msg=where)


def places(name: str) -> list[tuple[str, str, str]]:
    """Return files and shards of every layout, and the plain stores of one, with types in turn."""
    turn, layouts = list(FUNCTIONS).index(name), list(LAYOUTS)
    wanted = [
        *itertools.product(("h5ad", "zarr sharded"), layouts),
        ("zarr 2", layouts[turn % 3]),
        ("zarr 3", layouts[(turn + 1) % 3]),
    ]
    chosen = [
        (container, layout, kind)
        for (container, layout), kind in zip(wanted, itertools.cycle(TYPES), strict=False)
        if container in FUNCTIONS[name].containers
    ]
    left = sorted(set(TYPES) - {kind for _, _, kind in chosen})
    return chosen + [("h5ad", "csr", kind) for kind in left]


def test_every_layout_is_tried_in_every_container_and_every_type_with_every_function() -> None:
    tried = [place for name in FUNCTIONS for place in places(name)]
    assert {place[:2] for place in tried} == set(itertools.product(CONTAINERS, LAYOUTS))
    for name in FUNCTIONS:
        assert {kind for _, _, kind in places(name)} == set(TYPES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_gives_the_same_from_every_container(
    name: str, stored: dict[Any, Path], tmp_path: Path
) -> None:
    for place in places(name):
        assert_as_expected(name, stored[place], tmp_path / " ".join(place))


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_gives_the_same_from_every_type_in_every_container(
    name: str, stored: dict[Any, Path], tmp_path: Path
) -> None:
    for container, layout in itertools.product(FUNCTIONS[name].containers, LAYOUTS):
        for kind in types_in(container):
            place = container, layout, kind
            assert_as_expected(name, stored[place], tmp_path / " ".join(place))
