"""Damaged files: a corpus made by a script, and what reading each of them came to.

``python -m faults.damaged KIND FIRST COUNT`` reads COUNT damaged files and prints how each
ended; it dies where the reader does. A damage is a function of its number alone.
"""

from __future__ import annotations

import faulthandler
import gzip
import json
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp
import slots
from layouts import count_screen, write_h5ad
from tenx_files import write_old_tenx_h5, write_tenx_h5

SECONDS_PER_CASE = 30  # a case takes a tenth of a second; longer is a hang
COUNTS, LABELS = count_screen()
CELLS = [f"cell{i}" for i in range(len(COUNTS))]
GENES = [f"gene{j}" for j in range(COUNTS.shape[1])]


def _h5ad(folder: Path, **how: Any) -> Path:
    return write_h5ad(folder / "screen.h5ad", COUNTS, LABELS, **how)


def _rich(folder: Path) -> Path:
    path = folder / "screen.h5ad"
    slots.rich(COUNTS, LABELS).write_h5ad(path)
    return path


def _tenx(folder: Path) -> Path:
    kinds = ["Gene Expression"] * 10 + ["CRISPR Guide Capture"] * 3
    return write_tenx_h5(folder / "matrix.h5", COUNTS, CELLS, GENES, kinds)


def _old_tenx(folder: Path) -> Path:
    return write_old_tenx_h5(folder / "matrix.h5", COUNTS, CELLS, GENES, ["hg19"])


def _mtx(folder: Path, packed: bool = False) -> Path:
    folder = folder / "mtx"
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", sp.csr_matrix(COUNTS.T.astype(int)))
    features = "".join(f"ID{k}\t{name}\tGene Expression\n" for k, name in enumerate(GENES))
    (folder / "features.tsv").write_text(features)
    (folder / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in CELLS))
    if packed:
        for path in list(folder.iterdir()):
            with gzip.open(f"{path}.gz", "wb") as file:
                file.write(path.read_bytes())
            path.unlink()
    return folder


def _h5mu(folder: Path) -> Path:
    single = _h5ad(folder)
    path = folder / "screen.h5mu"
    with h5py.File(path, "w") as file, h5py.File(single) as held:
        for name in ("rna", "gdo"):
            file.create_group(f"mod/{name}")
            for slot in held:
                held.copy(slot, file[f"mod/{name}"])
    single.unlink()
    return path


def _calls(folder: Path, suffix: str, long: bool) -> Path:
    import crispyx as cx

    rng = np.random.default_rng(0)
    counts = rng.poisson(0.3, (40, 4)).astype(np.uint32)
    counts[np.arange(40), np.arange(40) % 4] += 9
    adata = ad.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=CELLS[:40]),
        var=pd.DataFrame(index=[f"g{k}" for k in range(4)]),
    )
    calls = cx.gd.assign(adata, model="umi", umi_threshold=5)
    return cx.gd.write_calls(calls, folder / f"calls{suffix}", long=long)


def _store(folder: Path, version: int, shards: bool, **how: Any) -> Path:
    import crispyx as cx

    single = _h5ad(folder, **how)
    before = cx.settings.zarr_format, cx.settings.zarr_shards
    cx.settings.zarr_format, cx.settings.zarr_shards = version, shards
    path = folder / "screen.zarr"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = cx.data.convert_to_csr if "layout" not in how else cx.data.convert_to_csc
            made(single, output_path=path, verbose=False)
    finally:
        cx.settings.zarr_format, cx.settings.zarr_shards = before
    single.unlink()
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "h5ad csr": _h5ad,
    "h5ad csc gzip": lambda d: _h5ad(d, layout="csc", compression="gzip"),
    "h5ad dense": lambda d: _h5ad(d, layout="dense", compression="lzf"),
    "h5ad of anndata 0.6": lambda d: _h5ad(d, label_kind="anndata 0.6", old_sparse=True),
    "h5ad with every slot": lambda d: _rich(d),
    "zarr 2": lambda d: _store(d, 2, False),
    "zarr 3 csc": lambda d: _store(d, 3, False, layout="csc"),
    "zarr sharded": lambda d: _store(d, 3, True),
    "10x h5": _tenx,
    "10x h5 of Cell Ranger 2": _old_tenx,
    "10x mtx": _mtx,
    "10x mtx gzip": lambda d: _mtx(d, packed=True),
    "h5mu": _h5mu,
    "calls csv": lambda d: _calls(d, ".csv", False),
    "calls tsv of pairs": lambda d: _calls(d, ".tsv", True),
    "calls parquet": lambda d: _calls(d, ".parquet", False),
    "calls arrow": lambda d: _calls(d, ".arrow", True),
    "calls h5ad": lambda d: _calls(d, ".h5ad", False),
}


def read(kind: str, path: Path) -> None:
    """Read everything that crispyx reads of such a file."""
    import crispyx as cx
    from crispyx._io.source import open_source
    from crispyx.errors import CrispyxError

    if kind.startswith("calls"):
        cx.gd.write_calls(path, path.parent / "again.csv", force=True)
        return
    with open_source(path) as source:
        for axis in (source.obs, source.var):
            assert len(axis.index) in source.shape
            for name in axis.columns:
                axis.column(name)
        for block in source.native_blocks(source.empty_summary(), max_values=50):
            n_minor = source.shape[0 if source.layout == "csc" else 1]
            assert len(block.values) == len(block.minor) == block.ptr[-1]
            assert block.minor.min(initial=0) >= 0
            assert block.minor.max(initial=0) < n_minor
            assert np.isfinite(block.values).all()
    for door in _doors(kind, path):
        try:
            door()
        except CrispyxError as error:
            _require_named(path, error)


def _doors(kind: str, path: Path) -> list[Callable[[], Any]]:
    """Return every other public way into such a file."""
    import crispyx as cx

    doors = [
        lambda: cx.data.get_matrix_storage_format(path),
        lambda: list(cx.data.iter_matrix_chunks(path, axis=1, chunk_size=5)),
        lambda: cx.data.convert_to_csc(path, output_path=path.parent / "o.h5ad", verbose=False),
    ]
    if kind.startswith("10x"):
        doors += [lambda: cx.pp.read_10x(path)]
    if kind.startswith(("h5ad", "zarr")):
        doors += [
            lambda: cx.load_obs(path),
            lambda: cx.load_var(path),
            lambda: cx.read_backed(path),
            lambda: cx.AnnData(path).to_memory(),
            lambda: [entry.load() for entry in cx.AnnData(path).uns.values()],
            lambda: cx.data.infer_columns(path),
            lambda: cx.filter_cells_by_gene_count(path, min_genes=2),
            lambda: cx.data.sort_by_perturbation(
                path, control_label="control", output_path=path.parent / "s.h5ad"
            ),
        ]
    return doors


def _require_named(path: Path, error: Exception) -> None:
    if path.stem not in str(error) and path.name not in str(error):
        raise AssertionError(f"does not name the file: {error}")


def damage(path: Path, number: int) -> None:
    """Damage a file, or one file of a folder."""
    rng = np.random.default_rng(number)
    # A store is many files, most of which no reader opens.
    for _ in range(8 if path.suffix == ".zarr" else 1):
        _damage_once(path, rng)


def _damage_once(path: Path, rng: np.random.Generator) -> None:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        path = files[rng.integers(len(files))]
        if path.name in METADATA and rng.random() < 0.7:
            with suppress(ValueError):  # no JSON any more
                _change_metadata(path, rng)
            return
    is_hdf5 = h5py.is_hdf5(path)
    if is_hdf5 and rng.random() < 0.7:
        with h5py.File(path, "r+") as file:
            _change_structure(file, rng)
        return
    content = bytearray(path.read_bytes())
    if not content:
        return
    kind = rng.integers(4)
    at = int(rng.integers(len(content)))
    if kind == 0:
        content = content[:at]
    elif kind == 1:
        for place in rng.integers(len(content), size=rng.integers(1, 9)):
            content[place] = rng.integers(256)
    elif kind == 2:
        length = int(rng.integers(1, 200))
        content[at : at + length] = bytes(min(length, len(content) - at))
    else:
        length = int(rng.integers(1, 200))
        content[at:at] = content[at : at + length]
    path.write_bytes(content)


ADVERSARIAL: tuple[Callable[[np.random.Generator, tuple[int, ...]], Any], ...] = (
    lambda rng, shape: rng.integers(-5, 99, shape),
    lambda rng, shape: rng.integers(-(2**62), 2**62, shape),
    lambda rng, shape: np.sort(rng.integers(0, 2**33, shape)),
    lambda rng, shape: np.full(shape, np.nan),
    lambda rng, shape: rng.choice([np.inf, -np.inf, 5e-324, 1e308], shape),
    lambda rng, shape: np.full(shape, b"text"),
    lambda rng, shape: rng.random(shape) > 0.5,
    lambda rng, shape: rng.random(shape) + 1j,
    lambda rng, shape: np.zeros(shape, dtype=[("a", "i4"), ("b", "f8")]),
    lambda rng, shape: np.zeros((*shape, 2)),
    lambda rng, shape: np.zeros(tuple(rng.integers(0, 9, len(shape)))),
    lambda rng, shape: np.float64(3),
    lambda rng, shape: np.zeros(shape, dtype=">u8") + rng.integers(9),
    lambda rng, shape: h5py.Empty("f4"),
)


METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
WRONG: tuple[Any, ...] = (
    None,
    -1,
    0,
    2**62,
    1.5,
    "text",
    "csr_matrix",
    "<U5",
    [],
    {},
    [2**40],
    True,
)


def _change_metadata(path: Path, rng: np.random.Generator) -> None:
    """Put something else into one place of a JSON file."""
    whole = json.loads(path.read_text())
    node, places = whole, []
    while isinstance(node, dict | list) and len(node):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[rng.integers(len(keys))]
        places.append((node, key))
        node = node[key]
    if places:
        node, key = places[rng.integers(len(places))]
        if rng.random() < 0.3:
            del node[key]
        else:
            node[key] = WRONG[rng.integers(len(WRONG))]
    path.write_text(json.dumps(whole))


def _change_structure(file: h5py.File, rng: np.random.Generator) -> None:
    nodes: list[str] = []
    file.visit(nodes.append)
    name = str(rng.choice(nodes))
    node = file[name]
    what = rng.integers(4)
    if what == 0:
        del file[name]
    elif what == 1 and len(node.attrs):
        key = str(rng.choice(list(node.attrs)))
        if rng.random() < 0.3:
            del node.attrs[key]
        else:
            node.attrs[key] = ADVERSARIAL[rng.integers(len(ADVERSARIAL))](rng, (2,))
    elif what == 2:
        del file[name]
        if rng.random() < 0.5:
            file.create_group(name)
        else:  # a claim of more than there could be; no byte of it is written
            file.create_dataset(name, shape=(2**44,), dtype="i8", chunks=(1024,))
    elif isinstance(node, h5py.Dataset):
        shape = node.shape or (1,)
        attributes = dict(node.attrs)
        del file[name]
        file[name] = ADVERSARIAL[rng.integers(len(ADVERSARIAL))](rng, shape)
        file[name].attrs.update(attributes)


def _outcome(kind: str, path: Path) -> str:
    from crispyx.errors import CrispyxError

    try:
        read(kind, path)
    except CrispyxError as error:
        _require_named(path, error)
        return "refused"
    return "read"


def _described(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "crispyx" in frame.filename] or frames
    return f"{type(error).__name__}: {error} ({Path(own[-1].filename).name}:{own[-1].lineno})"


def hammer(kind: str, first: int, count: int) -> None:
    """Read damaged files; print for each how that ended, as a line of JSON."""
    with tempfile.TemporaryDirectory() as held:
        original = KINDS[kind](Path(held))
        for number in range(first, first + count):
            folder = Path(held, "damaged")
            folder.mkdir()
            path = folder / original.name
            copy = shutil.copytree if original.is_dir() else shutil.copy
            copy(original, path)
            damage(path, number)
            faulthandler.dump_traceback_later(SECONDS_PER_CASE, exit=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    ended = _outcome(kind, path)
                except Exception as error:  # noqa: BLE001 - what is looked for
                    ended = _described(error)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps([number, ended]), flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    hammer(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
