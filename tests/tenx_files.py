"""Feature-barcode matrices in the layouts that 10x Genomics publishes for Cell Ranger."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import scipy.sparse as sp


def write_tenx_h5(
    path: Path,
    counts: Any,
    barcodes: Sequence[str],
    names: Sequence[str],
    kinds: Sequence[str],
    ids: Sequence[str] | None = None,
) -> Path:
    """Write a file of Cell Ranger 3 and later from cells x features."""
    matrix = sp.csr_matrix(counts)
    ids = [f"ID{i}" for i in range(len(names))] if ids is None else ids
    with h5py.File(path, "w") as file:
        file.attrs["filetype"] = "matrix"
        group = file.create_group("matrix")
        _write_csc(group, matrix, barcodes)
        features = group.create_group("features")
        columns = {"id": ids, "name": names, "feature_type": kinds}
        columns |= {"genome": ["GRCh38"] * len(names), "_all_tag_keys": ["genome"]}
        for name, values in columns.items():
            features[name] = np.array(list(values), dtype="S")
    return path


def write_old_tenx_h5(
    path: Path, counts: Any, barcodes: Sequence[str], names: Sequence[str], genomes: Sequence[str]
) -> Path:
    """Write a file of Cell Ranger 2: a group for each genome."""
    with h5py.File(path, "w") as file:
        for genome in genomes:
            group = file.create_group(genome)
            _write_csc(group, sp.csr_matrix(counts), barcodes)
            group["genes"] = np.array([f"ID{i}" for i in range(len(names))], dtype="S")
            group["gene_names"] = np.array(list(names), dtype="S")
    return path


def _write_csc(group: h5py.Group, cells: sp.csr_matrix, barcodes: Sequence[str]) -> None:
    # Features x barcodes by barcode has the arrays of barcodes x features by barcode.
    group["barcodes"] = np.array(list(barcodes), dtype="S")
    group["data"] = cells.data.astype(np.int32)
    group["indices"] = cells.indices.astype(np.int64)
    group["indptr"] = cells.indptr.astype(np.int64)
    group["shape"] = np.array(cells.shape[::-1], dtype=np.int32)


def write_tenx_folder(
    folder: Path,
    counts: Any,
    barcodes: Sequence[str],
    names: Sequence[str],
    kinds: Sequence[str] | None,
    ids: Sequence[str] | None = None,
    *,
    packed: bool = True,
) -> Path:
    """Write an mtx folder with SciPy; ``kinds=None`` makes one of Cell Ranger 2."""
    folder.mkdir()
    ids = [f"ID{i}" for i in range(len(names))] if ids is None else ids
    scipy.io.mmwrite(folder / "matrix.mtx", sp.csr_matrix(counts).T.tocoo(), field="integer")
    columns = [ids, names] if kinds is None else [ids, names, kinds]
    texts = {
        "barcodes.tsv": "".join(f"{barcode}\n" for barcode in barcodes),
        "genes.tsv" if kinds is None else "features.tsv": "".join(
            "\t".join(row) + "\n" for row in zip(*columns, strict=True)
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    if packed:
        for name in ("matrix.mtx", *texts):
            plain = folder / name
            (folder / f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes(), 1))
            plain.unlink()
    return folder
