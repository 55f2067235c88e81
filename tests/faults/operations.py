"""Every long public operation on small inputs, as something that can be disturbed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GROUP = "group"
SHAPE = (240, 60)


def counts_of_screen() -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(11)
    counts = rng.poisson(rng.gamma(0.7, 1.0, SHAPE[1]), SHAPE).astype(np.float32)
    counts[:, 5] += 1  # a gene of every cell
    labels = ["control", "P0", "P1"] * 10
    labels += rng.choice(["control", *(f"P{k}" for k in range(4))], SHAPE[0] - 30).tolist()
    return counts, labels


def write_inputs(folder: Path) -> None:
    """Write a screen by rows and by columns, guide counts, and a result of the screen."""
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp

    import crispyx as cx

    counts, labels = counts_of_screen()
    cells = [f"cell{i}" for i in range(SHAPE[0])]
    obs = pd.DataFrame({GROUP: labels, "batch": ["a", "b"] * (SHAPE[0] // 2)}, index=cells)
    var = pd.DataFrame(index=[f"gene{j}" for j in range(SHAPE[1])])
    for name, form in (("csr", sp.csr_matrix), ("csc", sp.csc_matrix)):
        ad.AnnData(form(counts), obs=obs, var=var).write_h5ad(folder / f"{name}.h5ad")
    rng = np.random.default_rng(12)
    guides = rng.poisson(0.2, (SHAPE[0], 8)).astype(np.uint32)
    guides[np.arange(SHAPE[0]), np.arange(SHAPE[0]) % 8] += 40
    names = [f"NTC_{k}" if k < 2 else f"P{k}_g{k}" for k in range(8)]
    adata = ad.AnnData(sp.csr_matrix(guides), obs=obs[["batch"]], var=pd.DataFrame(index=names))
    adata.write_h5ad(folder / "guides.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cx.nb_glm_test(folder / "csc.h5ad", groupby=GROUP, output_path=folder / "fits.h5ad")


@dataclass(frozen=True)
class Operation:
    """One public call.

    Attributes
    ----------
    run : callable (inputs, output, resume) -> None
        Makes ``output`` from a folder of :func:`write_inputs`; changes it, where ``in_place``.
    source : str
        Name of the input it reads or copies.
    resumes : bool
        It goes on where an interrupted run stopped.
    in_place : bool
        ``output`` is there before, as a copy of ``source``.
    beside : tuple of str
        Further files it makes in the folder of the output.
    """

    run: Callable[[Path, Path, bool], Any]
    source: str = "csr.h5ad"
    resumes: bool = True
    in_place: bool = False
    beside: tuple[str, ...] = ()


def _wilcoxon(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.wilcoxon_test(
        inputs / "csr.h5ad",
        groupby=GROUP,
        chunk_size=16,
        checkpoint_interval=1,
        output_path=output,
        resume=resume,
    )


def _t_test(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx
    from crispyx._jobs import plan

    plan.MAX_WIDTH = 16
    cx.t_test(
        inputs / "csc.h5ad",
        groupby=GROUP,
        checkpoint_interval=1,
        scanpy_format=True,
        output_path=output,
        resume=resume,
    )


def _nb_glm(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx
    from crispyx._jobs import plan

    plan.MAX_WIDTH = 16
    cx.nb_glm_test(
        inputs / "csr.h5ad",
        groupby=GROUP,
        checkpoint_interval=1,
        chunk_size=16,
        output_path=output,
        resume=resume,
    )


def _shrink(inputs: Path, output: Path, resume: bool) -> None:
    from crispyx.de import shrink_lfc

    shrink_lfc(
        inputs / "fits.h5ad", method="full", batch_size=16, output_path=output, resume=resume
    )


def _normalize(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    source = inputs / "csr.h5ad"
    cx.normalize_total_log1p(source, output, chunk_size=60, verbose=False, resume=resume)


def _quality_control(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.quality_control_summary(
        inputs / "csr.h5ad",
        perturbation_column=GROUP,
        min_genes=5,
        min_cells_per_perturbation=5,
        min_cells_per_gene=20,
        chunk_size=60,
        cache_mode="memmap",
        output_path=output,
        resume=resume,
    )


def _to_csc(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    source = inputs / "csr.h5ad"
    cx.data.convert_to_csc(source, output_path=output, verbose=False, resume=resume)


def _to_csr(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    source = inputs / "csc.h5ad"
    cx.data.convert_to_csr(source, output_path=output, verbose=False, resume=resume)


def _sort(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.data.sort_by_perturbation(inputs / "csr.h5ad", GROUP, output_path=output, resume=resume)


def _aggregate(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    source = inputs / "csr.h5ad"
    cx.pb.aggregate(source, groupby=[GROUP, "batch"], output_path=output, resume=resume)


def _effects(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.pseudobulk.compute_average_log_expression(
        inputs / "csc.h5ad", perturbation_column=GROUP, output_path=output, resume=resume
    )


def _components_of_copy(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    source = output.with_name("csr.h5ad")
    if not source.exists():
        import shutil

        shutil.copy2(inputs / "csr.h5ad", source)
    cx.pp.pca(source, n_comps=4, copy=True, show_progress=False)


def _components(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.pp.pca(output, n_comps=4, show_progress=False)


def _standard_labels(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.data.normalise_perturbation_labels(output, GROUP)


def _obsm(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.data.write_obsm_to_h5ad(output, "scores", np.arange(2.0 * SHAPE[0]).reshape(-1, 2))


def _guide_calls(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    calls = cx.gd.assign(inputs / "guides.h5ad", model="umi", umi_threshold=5)
    cx.gd.write_calls(calls, output, force=resume)


def _guides_joined(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    calls = cx.gd.assign(inputs / "guides.h5ad", model="umi", umi_threshold=5)
    cx.gd.add_to(inputs / "csr.h5ad", calls, output_path=output)


def _simulate(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.datasets.simulate_screen(
        output.parent, n_cells=200, n_genes=40, n_perturbations=4, seed=3, overwrite=resume
    )


def _simulate_by_genes(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx
    from crispyx.datasets import count_files

    count_files._CHUNK = 256
    cx.datasets.simulate_screen(
        output.parent,
        n_cells=200,
        n_genes=40,
        n_perturbations=4,
        layout="csc",
        compression="gzip",
        seed=3,
        overwrite=resume,
    )


def _subsample(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    source = inputs / "csr.h5ad"
    cx.pp.subsample(source, 100, chunk_size=60, output_path=output, resume=resume)


def _downsample(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.pp.downsample_counts(
        inputs / "csc.h5ad", counts_per_cell=20, output_path=output, resume=resume
    )


def _concat(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx
    from crispyx._io import joined

    joined.STREAM_VALUES = 1000
    parts = inputs / "csr.h5ad", inputs / "csc.h5ad"
    cx.pp.concat_h5ad(parts, output, join="outer", resume=resume)


def _compress(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.data.compress_h5ad(inputs / "csr.h5ad", output, values="smallest")


def _variable_genes(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.pp.highly_variable_genes(
        output, n_top_genes=10, perturbation_column=GROUP, show_progress=False
    )


def _residual_effects(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.tl.residual_effects(
        inputs / "csr.h5ad", perturbation_column=GROUP, covariates=["batch"], output_path=output
    )


def _calibration(inputs: Path, output: Path, resume: bool) -> None:
    import crispyx as cx

    cx.tl.calibration(
        inputs / "csr.h5ad",
        perturbation_column=GROUP,
        methods=("t_test",),
        n_splits=1,
        n_groups=2,
        min_cells_pert=5,
        output_path=output,
        show_progress=False,
    )


OPERATIONS: dict[str, Operation] = {
    "wilcoxon": Operation(_wilcoxon),
    "t_test": Operation(_t_test, "csc.h5ad"),
    "nb_glm": Operation(_nb_glm),
    "shrink": Operation(_shrink, "fits.h5ad"),
    "normalize": Operation(_normalize),
    "quality control": Operation(_quality_control),
    "convert to CSC": Operation(_to_csc),
    "convert to CSR": Operation(_to_csr, "csc.h5ad"),
    "sort": Operation(_sort),
    "aggregate": Operation(_aggregate),
    "average log expression": Operation(_effects, "csc.h5ad"),
    "pca of a copy": Operation(_components_of_copy, resumes=False, beside=("csr.h5ad",)),
    "pca in place": Operation(_components, resumes=False, in_place=True),
    "labels in place": Operation(_standard_labels, resumes=False, in_place=True),
    "obsm in place": Operation(_obsm, resumes=False, in_place=True),
    "guide calls": Operation(_guide_calls, "guides.h5ad", resumes=False),
    "guides joined": Operation(_guides_joined, resumes=False),
    "subsample": Operation(_subsample),
    "downsample": Operation(_downsample, "csc.h5ad"),
    "concatenate": Operation(_concat),
    "compress": Operation(_compress, resumes=False),
    "variable genes in place": Operation(_variable_genes, resumes=False, in_place=True),
    "residual effects": Operation(_residual_effects, resumes=False),
    "calibration": Operation(_calibration, resumes=False),
    "simulate": Operation(_simulate, "guides.h5ad", resumes=False),
    "simulate by genes": Operation(_simulate_by_genes, "guides.h5ad", resumes=False),
}


def output_name(name: str) -> str:
    """Return the name of the output; some are fixed by convention."""
    if name.startswith("simulate"):
        return "expression.h5ad"
    return "crispyx_pca.h5ad" if name == "pca of a copy" else "out.h5ad"


def run(name: str, inputs: Path, output: Path, resume: bool) -> None:
    """Run an operation with every block a moment to resume from."""
    from crispyx._jobs import checkpoint, partial

    checkpoint.MIN_SECONDS = 0.0
    partial.PartialUnit.due = property(lambda unit: True)  # type: ignore[assignment,method-assign]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        OPERATIONS[name].run(inputs, output, resume)
