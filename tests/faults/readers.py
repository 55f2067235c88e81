"""Readers of bytes from outside, each as one function: what coverage-guided fuzzing drives.

A reader gives numbers, or an error of crispyx that names the file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from faults.damaged import CELLS, GENES, KINDS
from layouts import COLUMN

import crispyx as cx
from crispyx._io.genes import GeneStream
from crispyx._io.source import open_source
from crispyx._io.tenx import read_tenx_folder
from crispyx._kernels.layout import Membership
from crispyx.cli.run.command import EXAMPLE
from crispyx.cli.run.configuration import read_configuration
from crispyx.errors import CrispyxError

N_CELLS, N_GENES = 6, 4
MEMBERSHIP = Membership.from_labels(np.array([0, 1, 0, 2, -1, 1]), 3)
NUMBERS = ("<f4", "<f8", "<i4", "<i8", "<u2", "<u8", "|b1", ">f4", "<f2")


def read_calls(content: bytes, folder: Path) -> None:
    path = folder / "calls.csv"
    path.write_bytes(content)
    cx.gd.write_calls(path, folder / "again.csv", force=True)


def read_constructs(content: bytes, folder: Path) -> None:
    path = folder / "constructs.tsv"
    path.write_bytes(content)
    guides = pd.DataFrame(index=["a", "b"])
    adata = ad.AnnData(sp.csr_matrix(np.full((2, 2), 9.0)), pd.DataFrame(index=["x", "y"]), guides)
    cx.gd.constructs(cx.gd.assign(adata, model="umi"), path)


def read_settings(content: bytes, folder: Path) -> None:
    path = folder / "screen.toml"
    path.write_bytes(content)
    for name in ("expression.h5ad", "guide_counts.h5ad"):
        (folder / name).touch()
    read_configuration(path)


def read_entries(content: bytes, folder: Path) -> None:
    (folder / "matrix.mtx").write_bytes(content)
    features = "".join(f"ID{k}\t{name}\tGene Expression\n" for k, name in enumerate(GENES))
    (folder / "features.tsv").write_text(features)
    (folder / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in CELLS))
    matrix = read_tenx_folder(folder)
    assert len(matrix.barcodes) == len(CELLS)
    for block in matrix.storage.blocks(0, len(CELLS), max_values=50, max_major=20):
        assert len(block.values) == len(block.minor) == block.ptr[-1]


def read_features(content: bytes, folder: Path) -> None:
    made = KINDS["10x mtx"](folder)
    (made / "features.tsv").write_bytes(content)
    cx.pp.read_10x(made)


def read_matrix(content: bytes, folder: Path) -> None:
    """Take the bytes apart into the arrays of a sparse matrix, of any types and lengths."""
    head, rest = content[:6].ljust(6, b"\0"), content[6:]
    layout = "csr" if head[0] % 2 else "csc"
    n_major = N_CELLS if layout == "csr" else N_GENES
    pointers = np.frombuffer(rest[: n_major + 1].ljust(n_major + 1, b"\0"), "i1").astype("i8")
    rest = rest[n_major + 1 :]
    n = min(len(rest) // 9, 200)
    places = np.frombuffer(rest[:n], "i1")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        values = np.frombuffer(rest[n : 9 * n], "<f8").astype(NUMBERS[head[1] % len(NUMBERS)])
    path = folder / "matrix.h5ad"
    obs = pd.DataFrame({COLUMN: ["control", "A", "control", "B", "A", "B"]}, index=list("abcdef"))
    ad.AnnData(obs=obs, var=pd.DataFrame(index=list("ghij"))).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file.pop("X", None)
        matrix = file.create_group("X")
        matrix.attrs["encoding-type"], matrix.attrs["encoding-version"] = (
            f"{layout}_matrix",
            "0.1.0",
        )
        matrix.attrs["shape"] = np.array([N_CELLS, N_GENES])
        how: dict[str, Any] = {"chunks": (3,), "compression": "gzip"} if head[2] % 2 and n else {}
        matrix.create_dataset("data", data=values, **how)
        matrix.create_dataset("indices", data=places.astype("<i8" if head[3] % 2 else "<i4"), **how)
        matrix["indptr"] = pointers << (head[4] % 2 * 32)
    with open_source(path) as source:
        stream = GeneStream(source, MEMBERSHIP, in_place=bool(head[5] % 2), n_threads=2)
        for block in stream.grouped(2):
            assert block.start < block.stop <= N_GENES
    cx.wilcoxon_test(path, perturbation_column=COLUMN, output_path=folder / "o.h5ad", force=True)


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "calls": read_calls,
    "constructs": read_constructs,
    "settings": read_settings,
    "entries": read_entries,
    "features": read_features,
    "matrix": read_matrix,
}


def try_reader(name: str, content: bytes, folder: Path) -> str:
    """Return ``"read"`` or ``"refused"``; whatever else a reader ends in is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            READERS[name](content, folder)
        except CrispyxError as error:
            if str(folder) not in str(error):
                raise AssertionError(f"does not name the file: {error}") from error
            return "refused"
    return "read"


def seeds(name: str, folder: Path) -> list[bytes]:
    """Return sound inputs to begin with."""
    if name == "calls":
        kinds = {"calls csv": "calls.csv", "calls tsv of pairs": "calls.tsv"}
        made = [KINDS[kind](folder).read_bytes() for kind in kinds]
        return [made[0], made[1].replace(b"\t", b",")]
    if name == "constructs":
        return [b"guide\tconstruct\ttarget\na\tv1\tX\nb\tv1\tX\n"]
    if name == "settings":
        return [EXAMPLE.encode()]
    if name in ("entries", "features"):
        part = "matrix.mtx" if name == "entries" else "features.tsv"
        return [(KINDS["10x mtx"](folder) / part).read_bytes()]
    values = np.array([1, 2, 3, 4, 5], "<f8").tobytes()
    return [
        bytes([1, k, k, k, 0, k]) + bytes([0, 1, 2, 3, 4, 5, 5]) + bytes([0, 1, 2, 3, 1]) + values
        for k in range(2)
    ]
