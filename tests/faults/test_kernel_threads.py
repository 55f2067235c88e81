"""Every kernel that runs in several threads does so here, on a small screen, with the same bits.

Short enough to run under the thread sanitizer: ``make check-threads``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from faults.contents import differences, everything_in

import crispyx as cx
from crispyx import _kernels

GROUP = "group"
N_CELLS, N_GENES, N_GUIDES = 260, 70, 8
N_THREADS = 4
HOME = Path(_kernels.__file__).parent
# crispyx gives these one gene or guide at a time, or one thread while others compute.
ONE_AT_A_TIME = {
    "beta_mixtures.fit_beta",
    "nb_likelihood.likelihood_sums",
    "normalize.add_row_totals",
    "welch.log_student_tails",
}
NO_FILTER = {"min_pct_ctrl": 0, "min_pct_pert": 0, "min_mean_ctrl": 0, "min_mean_pert": 0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screen")
    rng = np.random.default_rng(21)
    counts = rng.poisson(rng.gamma(0.8, 1.5, N_GENES), (N_CELLS, N_GENES)).astype(np.float32)
    obs = pd.DataFrame(
        {
            GROUP: rng.choice(["control", *(f"P{k}" for k in range(5))], N_CELLS),
            "batch": rng.choice(["a", "b"], N_CELLS),
            "depth": rng.normal(0, 1, N_CELLS),
        },
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    counts[(obs[GROUP] == "P1").to_numpy(), 3] += 4
    var = pd.DataFrame(index=[f"gene{j}" for j in range(N_GENES)])
    for name, form in (("csr", sp.csr_matrix), ("csc", sp.csc_matrix)):
        ad.AnnData(form(counts), obs=obs, var=var).write_h5ad(folder / f"{name}.h5ad")
    two = obs.assign(**{GROUP: obs[GROUP].where(obs[GROUP].isin(["P0", "P1"]), "control")})
    ad.AnnData(sp.csr_matrix(counts), obs=two, var=var).write_h5ad(folder / "two.h5ad")
    with_two = np.eye(6)[:, 1:][rng.integers(0, 6, N_CELLS)]
    with_two[rng.random(N_CELLS) < 0.2, 0] = 1
    several = ad.AnnData(sp.csr_matrix(counts), obs=obs, var=var)
    several.obsm["guides"] = pd.DataFrame(
        with_two, index=obs.index, columns=[f"P{k}" for k in range(5)]
    )
    several.write_h5ad(folder / "several.h5ad")
    ad.AnnData(sp.csr_matrix(counts), obs=obs, var=var).write_h5ad(
        folder / "packed.h5ad", compression="gzip"
    )
    umis = rng.poisson(0.3, (N_CELLS, N_GUIDES)).astype(np.uint32)
    umis[np.arange(N_CELLS), np.arange(N_CELLS) % N_GUIDES] += rng.poisson(30, N_CELLS).astype("u4")
    guides = pd.DataFrame(index=[f"g{k}" for k in range(N_GUIDES)])
    ad.AnnData(sp.csr_matrix(umis), obs=obs, var=guides).write_h5ad(folder / "guides.h5ad")
    with quiet():
        cx.data.convert_to_csr(
            folder / "csc.h5ad", output_path=folder / "plain.h5ad", verbose=False
        )
        cx.nb_glm_test(
            folder / "csr.h5ad", perturbation_column=GROUP, output_path=folder / "fits.h5ad"
        )
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def threads(number: int) -> Iterator[None]:
    before, cx.settings.n_threads = cx.settings.n_threads, number
    try:
        yield
    finally:
        cx.settings.n_threads = before


def comparing(method: Any, source: str = "csr.h5ad", **options: Any) -> Callable[..., Any]:
    def run(inputs: Path, output: Path) -> None:
        given = {"perturbation_column": GROUP, "control_label": "control", **NO_FILTER} | options
        method(inputs / source, **given, output_path=output)

    return run


def changing(function: Any, source: str = "csr.h5ad", **options: Any) -> Callable[..., Any]:
    def run(inputs: Path, output: Path) -> None:
        shutil.copy(inputs / source, output)
        function(output, **options)

    return run


def calling(model: str, **options: Any) -> Callable[..., Any]:
    def run(inputs: Path, output: Path) -> None:
        called = cx.gd.assign(inputs / "guides.h5ad", model=model, **options)
        cx.gd.write_calls(called, output)

    return run


def writing(function: Any, source: str = "csr.h5ad", **options: Any) -> Callable[..., Any]:
    def run(inputs: Path, output: Path) -> None:
        function(inputs / source, **options, output_path=output)

    return run


def shrunk(method: str) -> Callable[..., Any]:
    def run(inputs: Path, output: Path) -> None:
        cx.tl.shrink_lfc(inputs / "fits.h5ad", method=method, n_jobs=None, output_path=output)

    return run


def distances(max_cells: int | None) -> Callable[..., Any]:
    def run(inputs: Path, output: Path) -> None:
        shutil.copy(inputs / "csr.h5ad", output)
        cx.pp.pca(output, n_comps=5, show_progress=False)
        table = cx.tl.energy_distance(
            output, perturbation_column=GROUP, n_permutations=40, max_cells=max_cells,
            show_progress=False,
        )  # fmt: skip
        numbers = table.select_dtypes("number").to_numpy(dtype=float)
        cx.data.write_obsm_to_h5ad(output, "distances", np.resize(numbers, (N_CELLS, 4)))

    return run


QC = {"perturbation_column": GROUP, "min_genes": 2, "min_cells_per_perturbation": 5}
DOORS: dict[str, Callable[[Path, Path], Any]] = {
    "wilcoxon": comparing(cx.wilcoxon_test),
    "wilcoxon of columns": comparing(cx.wilcoxon_test, "csc.h5ad", chunk_size=9),
    "wilcoxon of packed rows": comparing(cx.wilcoxon_test, "packed.h5ad"),
    "wilcoxon of rows in place": comparing(cx.wilcoxon_test, "plain.h5ad"),
    "t_test of rows in place": comparing(cx.t_test, "plain.h5ad"),
    "wilcoxon within batches": comparing(cx.wilcoxon_test, batch_column="batch"),
    "wilcoxon against the rest": comparing(cx.wilcoxon_test, control_label="rest"),
    "wilcoxon of several guides": comparing(
        cx.wilcoxon_test, "several.h5ad", perturbation_column="obsm/guides", control_label="rest"
    ),
    "t_test": comparing(cx.t_test),
    "t_test of columns": comparing(cx.t_test, "csc.h5ad"),
    "t_test within batches": comparing(cx.t_test, "csc.h5ad", batch_column="batch"),
    "nb_glm": comparing(cx.nb_glm_test),
    "nb_glm pydeseq2": comparing(cx.nb_glm_test, preset="pydeseq2"),
    # Fewer comparisons than threads: the threads share the genes of each.
    "nb_glm pydeseq2 of two": comparing(cx.nb_glm_test, "two.h5ad", preset="pydeseq2"),
    "nb_glm calibrated": comparing(cx.nb_glm_test, preset="calibrated", batch_column="batch"),
    "nb_glm outliers": comparing(cx.nb_glm_test, cook_filter=True),
    "nb_glm lrt": comparing(cx.nb_glm_test, test="lrt"),
    "nb_glm score": comparing(cx.nb_glm_test, test="score"),
    "nb_glm permutation": comparing(cx.nb_glm_test, test="permutation"),
    "nb_glm covariates": comparing(cx.nb_glm_test, covariates=["batch", "depth"]),
    "nb_glm each comparison": comparing(
        cx.nb_glm_test, size_factor_scope="per_comparison", dispersion_scope="per_comparison"
    ),
    "shrinkage of statistics": shrunk("stats"),
    "shrinkage of counts": shrunk("full"),
    "quality control": writing(cx.quality_control_summary, **QC),
    "quality control of columns": writing(cx.quality_control_summary, "csc.h5ad", **QC),
    "normalize": lambda i, o: cx.normalize_total_log1p(i / "csr.h5ad", o, verbose=False),
    "normalize columns": lambda i, o: cx.normalize_total_log1p(i / "csc.h5ad", o, verbose=False),
    "convert to CSC": writing(cx.data.convert_to_csc, verbose=False),
    "convert to CSC in place": writing(cx.data.convert_to_csc, "plain.h5ad", verbose=False),
    "convert to CSR": writing(cx.data.convert_to_csr, "csc.h5ad", verbose=False),
    "sort": lambda i, o: cx.data.sort_by_perturbation(i / "csr.h5ad", GROUP, output_path=o),
    "downsample": writing(cx.pp.downsample_counts, counts_per_cell=30),
    "profiles": writing(cx.pb.aggregate, groupby=[GROUP, "batch"]),
    "profiles of columns": writing(cx.pb.aggregate, "csc.h5ad", groupby=GROUP),
    "components": changing(cx.pp.pca, n_comps=4, show_progress=False),
    "components of columns": changing(cx.pp.pca, "csc.h5ad", n_comps=4, show_progress=False),
    "variable genes": changing(
        cx.pp.highly_variable_genes, n_top_genes=9, cells="all", show_progress=False
    ),
    "energy distance": distances(None),
    "energy distance of some cells": distances(20),
    "components without a covariance": changing(
        cx.pp.pca, n_comps=4, method="incremental", show_progress=False
    ),
    "guides within batches": calling("neg_binomial", batch_key="batch"),
    **{f"guides {model}": calling(model) for model in ("umi", "max", "ratio", "quantiles")},
    **{
        f"guides {model}": calling(model)
        for model in ("poisson_gauss", "gauss", "poisson", "neg_binomial", "binomial", "beta2")
    },
}


def kernels_of_threads() -> set[str]:
    """Return the kernels whose stubs take a number of threads."""
    found = set()
    for stub in HOME.glob("*.pyi"):
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                names = {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
                if "n_threads" in names:
                    found.add(f"{stub.stem}.{node.name}")
    return found


@contextmanager
def watched(reached: set[str]) -> Iterator[None]:
    """Note the kernels that are given several threads."""
    with pytest.MonkeyPatch.context() as patch:
        for name in kernels_of_threads():
            module_name, function_name = name.split(".")
            module = importlib.import_module(f"crispyx._kernels.{module_name}")
            kernel = getattr(module, function_name)
            place = list(inspect.signature(kernel).parameters).index("n_threads")

            def run(*given: Any, _name=name, _kernel=kernel, _place=place, **named: Any) -> Any:
                number = named.get("n_threads", given[_place] if len(given) > _place else 1)
                if number > 1:
                    reached.add(_name)
                return _kernel(*given, **named)

            patch.setattr(module, function_name, run)
        yield


def test_every_kernel_gives_the_same_bits_in_several_threads(inputs: Path, tmp_path: Path) -> None:
    reached: set[str] = set()
    for name, door in DOORS.items():
        found = []
        for number in (1, N_THREADS):
            output = tmp_path / f"{name} {number}" / "out.h5ad"
            output.parent.mkdir()
            with threads(number), watched(reached), quiet():
                door(inputs, output)
            found.append(everything_in(output))
        changed = [one for one in differences(*found) if "path" not in one and "time" not in one]
        assert changed == [], name
    missing = sorted(kernels_of_threads() - reached - ONE_AT_A_TIME)
    assert not missing, " ".join(missing)
