"""Feature-barcode matrices of 10x Genomics: ``.h5`` files (streamed) and ``mtx`` folders.

Cell Ranger stores features x barcodes by barcode: read the other way round that is a CSR matrix of
cells x features.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from crispyx._io.annotations import as_text, read_array
from crispyx._io.columns import ArrayAnnotations
from crispyx._io.compressed import CompressedStorage
from crispyx._io.damage import reporting_damage
from crispyx._io.filters import load_filters
from crispyx._run.budget import require, working_memory
from crispyx.errors import InputError

GENE_FEATURES = "Gene Expression"
GUIDE_FEATURES = "CRISPR Guide Capture"
PARTS = ("barcodes", "data", "indices", "indptr", "shape")
# What var calls the fields of a feature; the same names as in scanpy.
FIELDS = {"id": "gene_ids", "name": "gene_symbols", "feature_type": "feature_types"}
TABLE_FIELDS = ("id", "name", "feature_type")
MATRIX_NAMES = ("matrix.mtx.gz", "matrix.mtx")
FEATURE_NAMES = ("features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv")
BARCODE_NAMES = ("barcodes.tsv.gz", "barcodes.tsv")
# Row, column and value of an entry as SciPy reads them, and the CSR matrix made of them.
BYTES_PER_ENTRY = 48
SCANNED_BYTES = 1 << 20


@dataclass(frozen=True)
class TenxMatrix:
    """A cells x features matrix of 10x.

    Attributes
    ----------
    storage : CompressedStorage
        CSR, by cell.
    barcodes : numpy.ndarray (n_cells,) str
        Cells.
    features : dict of str to numpy.ndarray (n_features,)
        Columns of var, ``gene_ids`` and ``gene_symbols`` among them.
    where : str
        File, for messages.
    """

    storage: CompressedStorage
    barcodes: np.ndarray
    features: dict[str, np.ndarray]
    where: str

    def default_kind(self) -> str | None:
        """Return the kind of features taken when none is asked for: genes, where others are there.

        None takes all.
        """
        kinds = self.features.get("feature_types")
        if kinds is None or GENE_FEATURES not in kinds:
            return None
        return GENE_FEATURES

    def kinds(self) -> list[str]:
        """Return the kinds of features there are; a matrix that names none holds genes."""
        kinds = self.features.get("feature_types")
        return [GENE_FEATURES] if kinds is None else list(dict.fromkeys(map(str, kinds)))

    def obs(self) -> ArrayAnnotations:
        """Return the cells."""
        return ArrayAnnotations("obs", self.barcodes, {}, self.where)

    def var(self, chosen: np.ndarray) -> ArrayAnnotations:
        """Return the chosen features."""
        columns = {name: values[chosen] for name, values in self.features.items()}
        index = unique_names(columns["gene_symbols"], columns["gene_ids"])
        return ArrayAnnotations("var", index, columns, self.where)


def unique_names(names: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the names, with the id in the place of a name that stands more than once.

    Where an id is another feature's name, all features get their ids.
    """
    _, code, count = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    mixed = np.where(count[code] > 1, ids, names)
    return mixed if len(set(mixed)) == len(mixed) else ids


def is_tenx_file(file: h5py.File) -> bool:
    """Tell whether an HDF5 file is a feature-barcode matrix of 10x, of any version."""
    return bool(_genomes(file))


def _genomes(file: h5py.File) -> list[str]:
    """Return the groups that hold a matrix: ``matrix``, or in old files one for each genome."""
    return [
        name
        for name, node in file.items()
        if isinstance(node, h5py.Group)
        and all(isinstance(node.get(part), h5py.Dataset) for part in PARTS)
    ]


def open_tenx_file(file: h5py.File, path: Path) -> TenxMatrix:
    """Return the matrix of a 10x ``.h5`` file without reading it.

    Raises
    ------
    InputError
        Several genomes in a file of Cell Ranger 2; a damaged structure.
    """
    genomes = _genomes(file)
    if len(genomes) > 1:
        raise InputError(
            f"{path} holds a matrix for each of the genomes {', '.join(map(repr, genomes))}; write "
            "one of them to a file of its own: scanpy.read_10x_h5(path, genome=...).write_h5ad(...)"
        )
    group = file[genomes[0]]
    where = f"{path} [{genomes[0]}]"
    with reporting_damage(where):
        load_filters(group)
        shape = group["shape"][...]
        barcodes = _plain(as_text(np.asarray(read_array(group["barcodes"]))))
        features = _file_features(group, where)
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise InputError(f"{where} has shape {shape}; the file is damaged: copy or write it again")
    _check_lengths(barcodes, features, (int(shape[0]), int(shape[1])), where)
    storage = CompressedStorage(
        group["data"], group["indices"], group["indptr"], len(barcodes), int(shape[0]), where
    )
    return TenxMatrix(storage, barcodes, features, where)


def _file_features(group: h5py.Group, where: str) -> dict[str, np.ndarray]:
    fields: dict[str, Any] = {"id": group.get("genes"), "name": group.get("gene_names")}
    table = group.get("features")
    if isinstance(table, h5py.Group):
        fields = dict(table.items())
    fields = {name: node for name, node in fields.items() if isinstance(node, h5py.Dataset)}
    for name in ("id", "name"):
        if name not in fields or fields[name].ndim != 1:
            raise InputError(
                f"{where} has no {name} of its features; the file is damaged: copy or write it "
                "again"
            )
    n_features = fields["id"].shape
    return {
        FIELDS.get(name, name): _plain(read_array(values))
        for name, values in fields.items()
        if values.shape == n_features and not name.startswith("_")
    }


def _plain(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "OSU":
        return values
    text = as_text(values)
    if any("\0" in str(one) for one in text):
        raise OSError("a name holds a zero byte")
    return text


def _check_lengths(
    barcodes: np.ndarray, features: dict[str, np.ndarray], shape: tuple[int, int], where: str
) -> None:
    found = (len(features["gene_ids"]), len(barcodes))
    if found != shape:
        raise InputError(
            f"{where} is {shape[0]} x {shape[1]} but there are {found[0]} features and {found[1]} "
            "barcodes; the file is damaged, or its parts come from different runs"
        )


def find_tenx_folder(path: Path) -> Path | None:
    """Return the folder when ``path`` is a folder with a 10x matrix, or that matrix itself."""
    folder = path.parent if path.name in MATRIX_NAMES else path
    return folder if folder.is_dir() and _find(folder, MATRIX_NAMES) else None


def tenx_folder_files(folder: Path) -> tuple[Path, Path, Path]:
    """Return the files of matrix, features and barcodes.

    Raises
    ------
    InputError
        One of them is missing.
    """
    found = []
    for names in (MATRIX_NAMES, FEATURE_NAMES, BARCODE_NAMES):
        file = _find(folder, names)
        if file is None:
            raise InputError(
                f"{str(folder)!r} has no {names[0]!r} (nor {', '.join(map(repr, names[1:]))}); a "
                "10x folder holds matrix, features and barcodes"
            )
        found.append(file)
    return found[0], found[1], found[2]


def _find(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_tenx_folder(folder: Path) -> TenxMatrix:
    """Read the matrix of a 10x ``mtx`` folder into memory.

    Raises
    ------
    InputError
        A part is missing, damaged, or of another run.
    MemoryBudgetError
        The matrix does not fit into memory; the ``.h5`` file of the same run is streamed.
    """
    import scipy.io

    matrix_file, feature_file, barcode_file = tenx_folder_files(folder)
    where = str(matrix_file)
    barcodes = np.array([row[0] for row in _table(barcode_file)], dtype=object)
    features = _table_features(feature_file)
    n_entries, shape = _header(matrix_file)
    _check_lengths(barcodes, features, shape, where)
    way_out = f"{where} (an mtx file is read whole, the .h5 file of the same run is streamed)"
    require(BYTES_PER_ENTRY * n_entries, working_memory(), way_out)
    try:
        with _opened(matrix_file) as text:
            _require_text(text)
            text.seek(0)
            entries = scipy.io.mmread(text)
    except (ValueError, OSError, EOFError, OverflowError, zlib.error) as error:
        raise InputError(f"{where} cannot be read ({error}); copy it again") from error
    matrix = entries.T.tocsr()
    if matrix.nnz != n_entries:
        raise InputError(
            f"{where} has several entries for one feature of one barcode: {n_entries} entries in "
            f"{matrix.nnz} places; the file is damaged: copy or write it again"
        )
    # What SciPy reads as 64 bits, 10x stores in 32.
    if matrix.dtype == np.int64 and abs(matrix).max() <= np.iinfo(np.int32).max:
        matrix = matrix.astype(np.int32)
    storage = CompressedStorage(
        matrix.data, matrix.indices, matrix.indptr, shape[1], shape[0], where
    )
    return TenxMatrix(storage, barcodes, features, where)


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _require_text(file: BinaryIO) -> None:
    """Raise ValueError at a zero byte, as half-copied files have them: SciPy crashes there."""
    while block := file.read(SCANNED_BYTES):
        if b"\0" in block:
            raise ValueError("it holds zero bytes")


def _table(path: Path) -> list[list[str]]:
    try:
        stored = path.read_bytes()
        text = (gzip.decompress(stored) if path.suffix == ".gz" else stored).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}); copy it again") from error
    if "\0" in text:
        raise InputError(f"{str(path)!r} holds zero bytes; it is half copied: copy it again")
    return [line.split("\t") for line in text.splitlines() if line]


def _table_features(path: Path) -> dict[str, np.ndarray]:
    rows = _table(path)
    n_fields = min((len(row) for row in rows), default=2)
    if n_fields < 2:
        row = next(row for row in rows if len(row) < 2)
        raise InputError(f"{str(path)!r} has a line without a name: {row}; id and name are needed")
    return {
        FIELDS[name]: np.array([row[i] for row in rows], dtype=object)
        for i, name in enumerate(TABLE_FIELDS[:n_fields])
    }


def _header(path: Path) -> tuple[int, tuple[int, int]]:
    """Return the number of entries and the shape."""
    import scipy.io

    try:
        n_rows, n_columns, n_entries, form, _, symmetry = scipy.io.mminfo(path)
    except (ValueError, OSError, EOFError, OverflowError, zlib.error) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as a Matrix Market file ({error}); copy it again"
        ) from error
    if form != "coordinate" or symmetry != "general":
        raise InputError(f"{str(path)!r} is a {form} {symmetry} matrix; 10x writes general entries")
    return int(n_entries), (int(n_rows), int(n_columns))
