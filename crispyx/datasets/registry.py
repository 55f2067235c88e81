"""The real data sets: files, checksums, citations, licenses and preparation."""

from __future__ import annotations

from dataclasses import dataclass

NON_TARGETING = "non-targeting"


@dataclass(frozen=True)
class OriginalFile:
    """A published file that can be downloaded."""

    name: str
    url: str
    sha256: str


@dataclass(frozen=True)
class DatasetRecord:
    """One real data set.

    ``expression`` and ``guides`` are file names in the folder ``CRISPYX_DATA_DIR``; ``sha256`` maps
    them to the checksum of the prepared file. ``originals`` are the published files it can be
    prepared from without further software, when there are any.
    """

    name: str
    expression: str
    sha256: dict[str, str]
    citation: str
    license: str
    prepared: str
    guides: str | None = None
    guides_obsm: str | None = None
    perturbation_column: str | None = None
    control_label: str | None = None
    originals: tuple[OriginalFile, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files in the data folder."""
        return (self.expression,) if self.guides is None else (self.expression, self.guides)


_CRISPAT = (
    "https://raw.githubusercontent.com/velten-group/crispat/"
    "a9372b9cf9b82b7409cc3be4d192056ae57a2673/example_data/Schraivogel/"
)

SCHRAIVOGEL = DatasetRecord(
    name="schraivogel",
    expression="schraivogel_tapseq.h5ad",
    guides="schraivogel_gRNA_counts.h5ad",
    sha256={
        "schraivogel_tapseq.h5ad": (
            "6910548586416eed740061f780de8e958e1041d70dc4510fc7bb42930f1fec42"
        ),
        "schraivogel_gRNA_counts.h5ad": (
            "6452607435b54236dc974530fcb90f468782682cdeba4da677f560affb723003"
        ),
    },
    perturbation_column="perturbation",
    control_label=NON_TARGETING,
    citation=(
        "Schraivogel et al. (2020) Targeted Perturb-seq enables genome-scale genetic screens in "
        "single cells. Nature Methods 17, 629-635. https://doi.org/10.1038/s41592-020-0837-5"
    ),
    license="MIT (repository velten-group/crispat, example_data/Schraivogel)",
    prepared=(
        "TAP-seq CRISPRi screen in K562. Guide counts: 21,977 cells x 86 guides, as published. "
        "Expression: 72 targeted genes in the 19,060 cells with exactly one guide at 5 UMIs or "
        "more; the target is the guide name without 'CROPseq_dCas9_DS_', cut at its first '_'"
    ),
    originals=(
        OriginalFile(
            "gRNA_counts.h5ad",
            _CRISPAT + "gRNA_counts.h5ad",
            "6452607435b54236dc974530fcb90f468782682cdeba4da677f560affb723003",
        ),
        OriginalFile(
            "gene_expression_counts.csv",
            _CRISPAT + "gene_expression_counts.csv",
            "41468aa891cb97140660edf0d4d2cb6dd435fa42b5f92d954f31082c142ec807",
        ),
    ),
)

PAPALEXI = DatasetRecord(
    name="papalexi",
    expression="papalexi_eccite_299genes.h5ad",
    sha256={
        "papalexi_eccite_299genes.h5ad": (
            "4aeb578bb2d5340cf7a233e5f194b47e7930e43d72ab07d99e8fd2b84147fd52"
        )
    },
    perturbation_column="perturbation",
    control_label=NON_TARGETING,
    citation=(
        "Papalexi et al. (2021) Characterizing the molecular regulation of inhibitory immune "
        "checkpoints with multimodal single-cell screens. Nature Genetics 53, 322-331. "
        "https://doi.org/10.1038/s41588-021-00778-2"
    ),
    license="MIT (repository Katsevich-Lab/sceptredata)",
    prepared=(
        "ECCITE-seq knock-out screen in THP-1 (GSE153056), the 299 genes kept by the R package "
        "sceptredata, 16,192 cells; a cell's guide is the one with the most UMIs, when it has at "
        "least 5 and at least 80 % of the cell's guide UMIs; obs: perturbation, guide, guide_umi, "
        "guide_total_umi, bio_rep"
    ),
)

GASPERINI = DatasetRecord(
    name="gasperini",
    expression="gasperini_highmoi.h5ad",
    guides_obsm="gRNA_counts",
    sha256={
        "gasperini_highmoi.h5ad": (
            "23b614734c18fd2766a2e781629791e685cbb9823b845a1c15394497ece2f4dc"
        )
    },
    control_label=NON_TARGETING,
    citation=(
        "Gasperini et al. (2019) A genome-wide framework for mapping gene regulation via cellular "
        "genetic screens. Cell 176, 377-390. https://doi.org/10.1016/j.cell.2018.11.029"
    ),
    license="GPL-3 (repository Katsevich-Lab/sceptre)",
    prepared=(
        "High-MOI CRISPRi screen in K562 (GSE120861), the subset in the R package sceptre: "
        "40,002 cells x 366 genes; 79 guides against 27 targets in obsm['gRNA_counts'], their "
        "names and targets in uns['gRNA_names'] and uns['gRNA_targets']; obs: batch, n_guides_umi5"
    ),
)

NORMAN = DatasetRecord(
    name="norman",
    expression="norman2019_crispra_500hvg.h5ad",
    sha256={
        "norman2019_crispra_500hvg.h5ad": (
            "111f15f9cb9551cc411d0ee10bcd2d7585d7ff097de00bffd07a99cd55720940"
        )
    },
    perturbation_column="perturbation",
    control_label="control",
    citation=(
        "Norman et al. (2019) Exploring genetic interaction manifolds constructed from rich "
        "single-cell phenotypes. Science 365, 786-793. https://doi.org/10.1126/science.aax4438"
    ),
    license="BSD-3-Clause (repository altoslabs/perturbench)",
    prepared=(
        "CRISPRa screen of single and double activations in K562, the subset in perturbench: "
        "3,375 cells x 500 variable genes, counts recovered exactly from the log1p matrix; obs: "
        "perturbation, ncounts (UMIs of the whole library), ngenes"
    ),
)

TENX_BRAIN = DatasetRecord(
    name="tenx_brain",
    expression="tenx_brain_10k_1000genes.h5ad",
    sha256={
        "tenx_brain_10k_1000genes.h5ad": (
            "6532017399de564400b7bf63b3a7300b4f816b4b0bcc8c4206de3116bd0ec278"
        )
    },
    citation=(
        "10x Genomics (2017) 1.3 million brain cells from E18 mice. Chromium demonstration data"
    ),
    license="BSD-3-Clause (repository scverse/scanpy, tests/_data/10x-10k-subset.zarr)",
    prepared=(
        "No perturbation. 10,000 cells x the first 1,000 genes in genome order, raw UMI counts, "
        "var: gene_ids; serves calibration under random splits on unselected genes"
    ),
)
