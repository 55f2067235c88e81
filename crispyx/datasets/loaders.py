"""The real screens, one function each."""

from __future__ import annotations

import os
from pathlib import Path

from crispyx.datasets.arguments import number
from crispyx.datasets.dataset import Dataset, Source
from crispyx.datasets.folders import DATA_DIR, find_prepared, looked_in, require_prepared
from crispyx.datasets.registry import (
    GASPERINI,
    NORMAN,
    PAPALEXI,
    SCHRAIVOGEL,
    TENX_BRAIN,
    DatasetRecord,
)
from crispyx.datasets.schraivogel_originals import fetch_screen, guide_target
from crispyx.errors import MissingFileError


def schraivogel(
    *, cache_dir: str | os.PathLike[str] | None = None, timeout: float = 30.0
) -> Dataset:
    """Return the TAP-seq CRISPRi screen of Schraivogel et al. (2020), downloading it if need be.

    Expression of 72 targeted genes in 19,060 K562 cells with one guide, and the UMI counts of 86
    guides (30 of them non-targeting) in 21,977 cells. The folder ``CRISPYX_DATA_DIR`` is looked
    into first; otherwise the two published files (6 MB) are downloaded once, checked against
    their SHA-256 and kept.

    Parameters
    ----------
    cache_dir : path or None
        Folder for downloads; None takes ``CRISPYX_CACHE_DIR``, else ``XDG_CACHE_HOME/crispyx``,
        else ``~/.cache/crispyx``.
    timeout : float
        Seconds to wait for the server.

    Returns
    -------
    Dataset
        With ``expression`` (obs: perturbation, guide, ...), ``guides`` and ``guide_to_target``.

    Raises
    ------
    FileNotFoundError
        Neither the folder nor the download has the files.

    Notes
    -----
    Source: Schraivogel et al. (2020), https://doi.org/10.1038/s41592-020-0837-5; files published
    with crispat (velten-group/crispat, MIT license).
    """
    return load_schraivogel(SCHRAIVOGEL, cache_dir, number("timeout", timeout, above=0))


def load_schraivogel(
    record: DatasetRecord, cache_dir: str | os.PathLike[str] | None, timeout: float
) -> Dataset:
    """Return the screen a record describes; see :func:`schraivogel`."""
    prepared = find_prepared(record)
    if prepared is not None:
        source: Source = "CRISPYX_DATA_DIR"
        expression, guides = (prepared[name] for name in record.files)
    else:
        source = "download"
        try:
            expression, guides = fetch_screen(record, cache_dir, timeout)
        except MissingFileError as error:
            raise MissingFileError(
                f"data set {record.name!r}: {looked_in(record)} (it may contain "
                f"{' and '.join(record.files)}), and {error}"
            ) from error
    targets = {guide: guide_target(guide) for guide in _names(guides)}
    return _dataset(record, source, expression, guides, targets)


def papalexi() -> Dataset:
    """Return the ECCITE-seq knock-out screen of Papalexi et al. (2021), a subset of 299 genes.

    16,192 THP-1 cells of three replicates (obs ``bio_rep``), 25 perturbations, guides called.

    Returns
    -------
    Dataset
        With ``expression`` (obs: perturbation, guide, ...).

    Raises
    ------
    FileNotFoundError
        The file is not in the folder ``CRISPYX_DATA_DIR``.

    Notes
    -----
    Source: Papalexi et al. (2021), https://doi.org/10.1038/s41588-021-00778-2.
    """
    return _from_data_folder(PAPALEXI)


def gasperini() -> Dataset:
    """Return a subset of the high-MOI CRISPRi screen of Gasperini et al. (2019).

    40,002 K562 cells x 366 genes; the UMI counts of 79 guides against 27 targets share the file, in
    ``obsm["gRNA_counts"]``.

    Returns
    -------
    Dataset
        With ``expression``, ``guides_obsm`` and ``guide_to_target``.

    Raises
    ------
    FileNotFoundError
        The file is not in the folder ``CRISPYX_DATA_DIR``.

    Notes
    -----
    Source: Gasperini et al. (2019), https://doi.org/10.1016/j.cell.2018.11.029.
    """
    path = require_prepared(GASPERINI)[GASPERINI.expression]
    import anndata

    screen = anndata.read_h5ad(path, backed="r")
    names, targets = screen.uns["gRNA_names"], screen.uns["gRNA_targets"]
    screen.file.close()
    guide_to_target = dict(zip(map(str, names), map(str, targets), strict=True))
    return _dataset(GASPERINI, "CRISPYX_DATA_DIR", path, None, guide_to_target)


def norman() -> Dataset:
    """Return a subset of the CRISPRa screen of Norman et al. (2019): single and double activations.

    3,375 K562 cells x 500 variable genes, 19 single and 14 double perturbations.

    Returns
    -------
    Dataset
        With ``expression`` (obs: perturbation, ncounts, ...).

    Raises
    ------
    FileNotFoundError
        The file is not in the folder ``CRISPYX_DATA_DIR``.

    Notes
    -----
    Source: Norman et al. (2019), https://doi.org/10.1126/science.aax4438.
    """
    return _from_data_folder(NORMAN)


def tenx_brain() -> Dataset:
    """Return 10,000 unperturbed mouse brain cells x 1,000 unselected genes (10x Genomics, 2017).

    Returns
    -------
    Dataset
        With ``expression``; there is no perturbation.

    Raises
    ------
    FileNotFoundError
        The file is not in the folder ``CRISPYX_DATA_DIR``.

    Notes
    -----
    Source: 10x Genomics (2017), 1.3 million brain cells from E18 mice.
    """
    return _from_data_folder(TENX_BRAIN)


def _from_data_folder(record: DatasetRecord) -> Dataset:
    paths = require_prepared(record)
    return _dataset(record, "CRISPYX_DATA_DIR", paths[record.expression], None, None)


def _dataset(
    record: DatasetRecord,
    source: Source,
    expression: Path,
    guides: Path | None,
    guide_to_target: dict[str, str] | None,
) -> Dataset:
    where = DATA_DIR if source == "CRISPYX_DATA_DIR" else "originals downloaded"
    return Dataset(
        name=record.name,
        expression=expression,
        guides=guides,
        perturbation_column=record.perturbation_column,
        control_label=record.control_label,
        guide_to_target=guide_to_target,
        citation=record.citation,
        source=source,
        origin=f"{where}: {record.prepared}. License: {record.license}",
        guides_obsm=record.guides_obsm,
    )


def _names(guides: Path) -> list[str]:
    import anndata

    counts = anndata.read_h5ad(guides, backed="r")
    counts.file.close()
    return [str(name) for name in counts.var_names]
