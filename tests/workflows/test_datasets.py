"""Data sets: where files are looked for, downloads that fail safely, and simulated screens."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from crispyx import datasets
from crispyx.datasets.cell_blocks import (
    block_rows,
    draw_cells,
    effect_of_guides,
    expression_block,
    log_fold_of_cells,
)
from crispyx.datasets.folders import cache_folder, sha256
from crispyx.datasets.loaders import load_schraivogel
from crispyx.datasets.registry import (
    GASPERINI,
    NORMAN,
    PAPALEXI,
    SCHRAIVOGEL,
    TENX_BRAIN,
    OriginalFile,
)
from crispyx.datasets.schraivogel_originals import guide_target, join_screen
from crispyx.datasets.screen_model import (
    EffectModel,
    ExpressionModel,
    GuideModel,
    ScreenDesign,
    ScreenModel,
    draw_tables,
)
from crispyx.datasets.streams import Stream, generator
from crispyx.errors import CrispyxWarning, InputError, MissingFileError, OutputExistsError

ALL_RECORDS = (SCHRAIVOGEL, PAPALEXI, GASPERINI, NORMAN, TENX_BRAIN)
SMALL = {"n_cells": 6000, "n_genes": 200, "n_perturbations": 8, "library_size": 400.0}


@pytest.fixture
def data_dir() -> Path:
    folder = os.environ.get("CRISPYX_DATA_DIR")
    if not folder:
        pytest.skip("CRISPYX_DATA_DIR is not set: the folder with the real screens")
    return Path(folder)


# Simulated screens


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    folder = tmp_path_factory.mktemp("screen")
    return datasets.simulate_screen(folder, **SMALL, with_labels=True, seed=3)


def matrix_bytes(path: Path) -> dict[str, bytes]:
    with h5py.File(path) as file:
        return {name: file["X"][name][:].tobytes() for name in ("data", "indices", "indptr")}


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    screen: datasets.Dataset, tmp_path: Path
) -> None:
    again = datasets.simulate_screen(tmp_path / "a", **SMALL, seed=3)
    other = datasets.simulate_screen(tmp_path / "b", **SMALL, seed=4)
    for name in ("expression", "guides", "truth"):
        first = matrix_bytes(getattr(screen, name))
        assert first == matrix_bytes(getattr(again, name))
        assert first != matrix_bytes(getattr(other, name))


def test_storage_options_do_not_change_a_count(screen: datasets.Dataset, tmp_path: Path) -> None:
    stored = datasets.simulate_screen(
        tmp_path, **SMALL, seed=3, dtype="float32", compression="gzip"
    )
    for name in ("expression", "guides"):
        plain = anndata.read_h5ad(getattr(screen, name)).X
        packed = anndata.read_h5ad(getattr(stored, name)).X
        assert plain.dtype == np.int32
        assert packed.dtype == np.float32
        assert (plain != packed).nnz == 0


def test_guide_detection_does_not_change_expression(
    screen: datasets.Dataset, tmp_path: Path
) -> None:
    noisy = datasets.simulate_screen(tmp_path, **SMALL, seed=3, ambient_umi=20.0, signal_umi=5.0)
    assert matrix_bytes(noisy.expression) == matrix_bytes(screen.expression)
    assert matrix_bytes(noisy.guides) != matrix_bytes(screen.guides)


def test_blocks_can_be_drawn_in_any_order(screen: datasets.Dataset) -> None:
    parameters = anndata.read_h5ad(screen.truth).uns["simulation"]

    def part(kind: type) -> object:
        names = [field.name for field in dataclasses.fields(kind)]
        return kind(**{n: _plain(parameters.get(n)) for n in names})

    model = ScreenModel(*map(part, (ScreenDesign, ExpressionModel, EffectModel, GuideModel)))
    tables = draw_tables(model)
    cells = draw_cells(model, tables.guides.share)
    effects = effect_of_guides(tables)
    blocks = list(enumerate(block_rows(model.design.n_cells)))
    drawn = {}
    for block, rows in reversed(blocks):
        rng = generator(3, Stream.EXPRESSION, block)
        log_fold = log_fold_of_cells(cells[rows], effects)
        drawn[block] = expression_block(rng, tables.genes, cells[rows], log_fold)
    assert len(drawn) == 2
    data = np.concatenate([drawn[block].data for block, _ in blocks]).astype(np.int32)
    assert data.tobytes() == matrix_bytes(screen.expression)["data"]


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def test_files_are_canonical_and_agree_with_each_other(screen: datasets.Dataset) -> None:
    expression, guides, truth = (
        anndata.read_h5ad(path) for path in (screen.expression, screen.guides, screen.truth)
    )
    for counts in (expression.X, guides.X):
        assert counts.has_canonical_format
        assert counts.data.min() > 0
    assert expression.shape == (6000, 200)
    assert guides.n_vars == len(screen.guide_to_target)
    assert dict(guides.var["target"].astype(str)) == dict(screen.guide_to_target)
    cells = truth.uns["cells"]
    assert expression.obs_names.equals(guides.obs_names)
    assert expression.obs_names.equals(cells.index)
    assert truth.var_names.equals(expression.var_names)
    assert set(truth.obs_names) <= set(expression.var_names)
    assert (np.diff(truth.uns["cell_guides"].indptr) == cells["n_guides"]).all()
    single = cells["n_guides"] == 1
    assert cells["guide"].notna().equals(single)
    assert expression.obs["perturbation"].notna().equals(single)
    target = cells["guide"][single].map(screen.guide_to_target).astype(str)
    assert (target == cells["perturbation"][single].astype(str)).all()
    assert list(expression.obs["batch"].cat.categories) == ["batch_1", "batch_2"]


def test_labels_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    unlabeled = datasets.simulate_screen(tmp_path, n_cells=50, n_genes=20, n_perturbations=2)
    assert list(anndata.read_h5ad(unlabeled.expression).obs.columns) == ["batch"]
    assert unlabeled.perturbation_column is None


def test_strongest_guide_is_the_true_one_in_cells_with_one_guide(
    screen: datasets.Dataset,
) -> None:
    guides = anndata.read_h5ad(screen.guides)
    cells = anndata.read_h5ad(screen.truth).uns["cells"]
    single = (cells["n_guides"] == 1).to_numpy()
    strongest = guides.var_names[np.asarray(guides.X[single].argmax(axis=1)).ravel()]
    agreement = np.mean(strongest == cells["guide"][single].astype(str))
    # P(NB(70.1, size 2.68) <= 1) is 6e-4: misses are a few cells in 5,000.
    assert agreement > 0.99


def test_planted_knock_downs_are_seen_in_the_counts(tmp_path: Path) -> None:
    screen = datasets.simulate_screen(
        tmp_path, **SMALL, with_labels=True, knockdown_log2fc=-3.0, knockdown_log2fc_sd=0.0,
        guide_efficacy_cv=0.0, batch_log_sd=0.0,
    )  # fmt: skip
    counts = anndata.read_h5ad(screen.expression)
    cells = anndata.read_h5ad(screen.truth).uns["cells"]
    label = counts.obs["perturbation"].astype(object)
    control = (label == "non-targeting").to_numpy()
    for target in anndata.read_h5ad(screen.truth).obs_names:
        y = np.asarray(counts[:, target].X.todense()).ravel()
        rate = {}
        for name, rows in {"perturbed": (label == target).to_numpy(), "control": control}.items():
            size = cells["size_factor"].to_numpy()[rows].sum()
            rate[name] = y[rows].sum() / size
        # A true ratio of 1/8; the standard error of the log of the ratio is below 0.25 here (some
        # 200 cells, dispersion below 2, at least 30 counts), so 1/3 is four of them away.
        assert rate["perturbed"] < rate["control"] / 3


def test_scanpy_reads_and_analyzes_a_simulated_screen(screen: datasets.Dataset) -> None:
    scanpy = pytest.importorskip("scanpy")
    data = scanpy.read_h5ad(screen.expression)
    scanpy.pp.normalize_total(data)
    scanpy.pp.log1p(data)
    data = data[data.obs["perturbation"].notna()].copy()
    target = data.obs["perturbation"].cat.categories[0]
    scanpy.tl.rank_genes_groups(
        data, "perturbation", groups=[target], reference="non-targeting", method="t-test"
    )
    table = scanpy.get.rank_genes_groups_df(data, target).set_index("names")
    assert table.loc[target, "logfoldchanges"] < 0


def test_a_screen_of_one_gene_and_one_cell_is_possible(tmp_path: Path) -> None:
    smallest = datasets.simulate_screen(
        tmp_path, n_cells=1, n_genes=1, n_perturbations=1, n_batches=1, n_control_guides=1
    )
    assert anndata.read_h5ad(smallest.expression).shape == (1, 1)


def test_cells_without_guides_and_high_moi_are_possible(tmp_path: Path) -> None:
    common = {"n_cells": 300, "n_genes": 30, "n_perturbations": 5}
    empty = datasets.simulate_screen(
        tmp_path / "a", **common, fraction_without_guide=1.0, ambient_umi=0.0
    )
    assert anndata.read_h5ad(empty.guides).X.nnz == 0
    crowded = datasets.simulate_screen(
        tmp_path / "b", **common, moi=15.0, fraction_without_guide=0.0
    )
    assert anndata.read_h5ad(crowded.truth).uns["cells"]["n_guides"].median() > 5


def test_existing_files_are_kept_unless_overwrite(tmp_path: Path) -> None:
    first = datasets.simulate_screen(tmp_path, n_cells=40, n_genes=20, n_perturbations=2)
    before = first.expression.read_bytes()
    with pytest.raises(OutputExistsError, match=r"expression\.h5ad.*overwrite=True"):
        datasets.simulate_screen(tmp_path, n_cells=50, n_genes=20, n_perturbations=2)
    assert first.expression.read_bytes() == before
    datasets.simulate_screen(tmp_path, n_cells=50, n_genes=20, n_perturbations=2, overwrite=True)
    assert anndata.read_h5ad(first.expression).n_obs == 50


def test_a_failed_simulation_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("crispyx.datasets.screen_files.guide_block", fail)
    with pytest.raises(OSError, match="disk full"):
        datasets.simulate_screen(tmp_path, n_cells=40, n_genes=20, n_perturbations=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 0}, r"n_cells is 0; give a whole number >= 1"),
        ({"n_cells": 10.5}, r"n_cells is 10\.5; give a whole number"),
        ({"n_genes": True}, r"n_genes is True; give a whole number"),
        ({"n_genes": 10, "n_perturbations": 11}, r"n_perturbations is 11 but there are 10 genes"),
        ({"n_cells": 3, "n_batches": 4}, r"n_batches is 4 but there are 3 cells"),
        ({"guides_per_perturbation": 0}, r"guides_per_perturbation is 0"),
        ({"n_control_guides": 0}, r"n_control_guides is 0"),
        ({"library_size": 0}, r"library_size is 0; give a finite number > 0"),
        ({"library_log_sd": -1}, r"library_log_sd is -1"),
        ({"gene_log_mean": float("nan")}, r"gene_log_mean is nan; give a finite number"),
        ({"gene_log_mean": 10, "gene_log_sd": 5}, r"largest mean count .* lower gene_log_mean"),
        ({"moi": 0}, r"moi is 0; give a finite number > 0 and <= 100"),
        ({"moi": "high"}, r"moi is 'high'"),
        ({"fraction_without_guide": 1.1}, r"fraction_without_guide is 1\.1"),
        ({"responding_fraction": -0.1}, r"responding_fraction is -0\.1"),
        ({"signal_size": 0}, r"signal_size is 0"),
        ({"dtype": "uint8"}, r"dtype is 'uint8'; give one of 'int32', 'float32'"),
        ({"compression": "zip"}, r"compression is 'zip'; give one of None, 'gzip', 'lzf'"),
        ({"with_labels": "yes"}, r"with_labels is 'yes'"),
        ({"seed": -1}, r"seed is -1"),
    ],
)
def test_arguments_out_of_range_are_named(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        datasets.simulate_screen(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_repr_names_files_and_origin(screen: datasets.Dataset) -> None:
    text = repr(screen)
    assert text.startswith("Dataset 'simulated'\n")
    assert str(screen.expression) in text
    assert "seed 3" in text


def test_import_stays_light() -> None:
    heavy = ("pandas", "anndata", "scipy.stats", "matplotlib", "scanpy")
    code = f"import sys, crispyx.datasets; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The data folder


@pytest.mark.parametrize("record", ALL_RECORDS, ids=lambda record: record.name)
def test_loader_finds_the_screen_in_the_data_folder(data_dir: Path, record) -> None:
    found = getattr(datasets, record.name)()
    assert found.source == "CRISPYX_DATA_DIR"
    assert found.expression.parent == data_dir
    screen = anndata.read_h5ad(found.expression)
    if found.perturbation_column is not None:
        assert found.control_label in set(screen.obs[found.perturbation_column])
    if found.guides_obsm is not None:
        assert screen.obsm[found.guides_obsm].shape[1] == len(found.guide_to_target)


def test_schraivogel_targets_agree_with_its_labels(data_dir: Path) -> None:
    found = datasets.schraivogel()
    obs = anndata.read_h5ad(found.expression).obs
    assert len(found.guide_to_target) == 86
    assert list(found.guide_to_target.values()).count("non-targeting") == 30
    targets = obs["guide"].astype(str).map(found.guide_to_target)
    assert (targets == obs["perturbation"].astype(str)).all()


def test_schraivogel_from_a_table_equals_the_prepared_file(data_dir: Path, tmp_path: Path) -> None:
    found = datasets.schraivogel()
    prepared = anndata.read_h5ad(found.expression)
    table = pd.DataFrame(prepared.X.toarray(), prepared.obs_names, prepared.var_names)
    for orientation in (table, table.T):
        orientation.to_csv(tmp_path / "counts.csv", index_label="gene")
        joined = join_screen(tmp_path / "counts.csv", found.guides)
        assert (joined.X != prepared.X).nnz == 0
        assert joined.X.dtype == np.int32
        assert joined.var_names.equals(prepared.var_names)
        pd.testing.assert_frame_equal(
            joined.obs.astype(str), prepared.obs.astype(str), check_like=True
        )


def test_a_file_that_differs_from_the_registered_one_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NORMAN.expression).write_bytes(b"another file")
    monkeypatch.setenv("CRISPYX_DATA_DIR", str(tmp_path))
    with pytest.warns(CrispyxWarning, match="differs from the registered file of 'norman'"):
        found = datasets.norman()
    assert found.expression == tmp_path / NORMAN.expression


@pytest.mark.parametrize("record", [PAPALEXI, GASPERINI, NORMAN, TENX_BRAIN])
def test_without_a_data_folder_the_error_says_origin_preparation_and_ways_out(
    record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRISPYX_DATA_DIR", raising=False)
    with pytest.raises(MissingFileError) as caught:
        getattr(datasets, record.name)()
    message = str(caught.value)
    for part in (
        "CRISPYX_DATA_DIR is not set",
        record.expression,
        record.citation,
        record.prepared,
        "cx.datasets.simulate_screen",
    ):
        assert part in message


def test_an_incomplete_data_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISPYX_DATA_DIR", str(tmp_path))
    with pytest.raises(MissingFileError, match=rf"{tmp_path.name}.*lacks {NORMAN.expression}"):
        datasets.norman()
    monkeypatch.setenv("CRISPYX_DATA_DIR", str(tmp_path / "absent"))
    with pytest.raises(MissingFileError, match="is not a folder"):
        datasets.norman()


# Downloads, from a server on this machine


class Server:
    """Files by path; ``cut`` announces more bytes than it sends."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.requests: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                body = outer.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                extra = 1000 if self.path in outer.cut else 0
                self.send_header("Content-Length", str(len(body) + extra))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("CRISPYX_DATA_DIR", raising=False)
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def originals(tmp_path: Path) -> dict[str, bytes]:
    """A screen of six cells in the form of the published files: four have exactly one guide."""
    names = ["CROPseq_dCas9_DS_MYC_+_1-P1P2", "CROPseq_dCas9_DS_non-targeting_00000"]
    umi = np.array([[9, 1], [0, 5], [8, 8], [4, 0], [30, 0], [1, 6]], dtype=np.int64)
    barcodes = [f"TAP1-{i}" for i in range(6)]
    guides = anndata.AnnData(
        sp.csr_matrix(umi),
        obs=pd.DataFrame({"batch": np.ones(6, dtype=np.int64)}, index=barcodes),
        var=pd.DataFrame(index=names),
    )
    guides.write_h5ad(tmp_path / "published.h5ad")
    table = pd.DataFrame(np.arange(18).reshape(6, 3), barcodes, ["A", "B", "C"])
    # One cell more than the guide file has, and another order.
    table.loc["TAP1-extra"] = 7
    return {
        "gRNA_counts.h5ad": (tmp_path / "published.h5ad").read_bytes(),
        "gene_expression_counts.csv": table.iloc[::-1].to_csv(index_label="gene").encode(),
    }


def served_record(url: str, files: dict[str, bytes]):
    return dataclasses.replace(
        SCHRAIVOGEL,
        originals=tuple(
            OriginalFile(name, f"{url}/{name}", hashlib.sha256(body).hexdigest())
            for name, body in files.items()
        ),
    )


def serve(server: Server, files: dict[str, bytes]):
    server.files = {f"/{name}": body for name, body in files.items()}
    return served_record(server.url, files)


def test_download_builds_the_screen_once(
    server: Server, originals: dict[str, bytes], tmp_path: Path
) -> None:
    record = serve(server, originals)
    found = load_schraivogel(record, tmp_path / "cache", 10)
    assert found.source == "download"
    screen = anndata.read_h5ad(found.expression)
    assert list(screen.obs_names) == ["TAP1-0", "TAP1-1", "TAP1-4", "TAP1-5"]
    assert list(screen.obs["perturbation"]) == ["MYC", "non-targeting", "MYC", "non-targeting"]
    assert screen.X.toarray().tolist() == [[0, 1, 2], [3, 4, 5], [12, 13, 14], [15, 16, 17]]
    assert found.guides.read_bytes() == originals["gRNA_counts.h5ad"]
    assert len(server.requests) == 2
    again = load_schraivogel(record, tmp_path / "cache", 10)
    assert again == found
    assert len(server.requests) == 2


def test_a_damaged_file_in_the_cache_is_downloaded_again(
    server: Server, originals: dict[str, bytes], tmp_path: Path
) -> None:
    record = serve(server, originals)
    found = load_schraivogel(record, tmp_path / "cache", 10)
    found.guides.write_bytes(b"damaged")
    load_schraivogel(record, tmp_path / "cache", 10)
    assert sha256(found.guides) == record.originals[0].sha256


def assert_fails(record, cache: Path, message: str) -> None:
    with pytest.raises(MissingFileError, match=message) as caught:
        load_schraivogel(record, cache, 5)
    for way_out in ("CRISPYX_DATA_DIR", "cache_dir=", "cx.datasets.simulate_screen"):
        assert way_out in str(caught.value)
    assert record.originals[0].url in str(caught.value)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_file_with_another_checksum_is_refused(
    server: Server, originals: dict[str, bytes], tmp_path: Path
) -> None:
    record = serve(server, originals)
    server.files["/gRNA_counts.h5ad"] = b"something else"
    assert_fails(record, tmp_path / "cache", "what came has SHA-256")


def test_a_file_the_server_lacks_is_reported(
    server: Server, originals: dict[str, bytes], tmp_path: Path
) -> None:
    record = serve(server, originals)
    server.files.clear()
    assert_fails(record, tmp_path / "cache", "answered 404")


def test_a_transfer_that_breaks_off_is_reported(
    server: Server, originals: dict[str, bytes], tmp_path: Path
) -> None:
    record = serve(server, originals)
    server.cut = {"/gRNA_counts.h5ad"}
    assert_fails(record, tmp_path / "cache", "broke off after .* of")


def test_an_unreachable_server_is_reported(
    originals: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("CRISPYX_DATA_DIR", raising=False)
    with socket.socket() as taken:
        # Bound but not listening: connections to this port are refused.
        taken.bind(("127.0.0.1", 0))
        record = served_record(f"http://127.0.0.1:{taken.getsockname()[1]}", originals)
        assert_fails(record, tmp_path / "cache", "cannot be reached")


def test_a_table_without_known_cells_is_refused(
    originals: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("gene,A\nx,1\n")
    with pytest.raises(InputError, match=r"other\.csv.*are named after cells"):
        join_screen(tmp_path / "other.csv", tmp_path / "published.h5ad")


def test_cache_folder_follows_argument_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.delenv("CRISPYX_CACHE_DIR", raising=False)
    assert cache_folder() == Path("/x/crispyx")
    monkeypatch.setenv("CRISPYX_CACHE_DIR", "/c")
    assert cache_folder() == Path("/c")
    assert cache_folder("/given") == Path("/given")
    monkeypatch.delenv("CRISPYX_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "crispyx"


@pytest.mark.parametrize(
    ("guide", "target"),
    [
        ("CROPseq_dCas9_DS_CCNE2_+_95907328.23-P1P2", "CCNE2"),
        ("CROPseq_dCas9_DS_HS2-B", "HS2-B"),
        ("CROPseq_dCas9_DS_non-targeting_00028", "non-targeting"),
    ],
)
def test_guide_names_give_targets(guide: str, target: str) -> None:
    assert guide_target(guide) == target


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), "soon"])
def test_timeout_is_checked(timeout: object) -> None:
    with pytest.raises(InputError, match="timeout is"):
        datasets.schraivogel(timeout=timeout)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_csc_file_holds_the_counts_of_the_csr_file(
    tmp_path: Path, compression: str | None, dtype: str
) -> None:
    options = {"n_cells": 4300, "n_genes": 40, "n_perturbations": 4, "seed": 2, "dtype": dtype}
    rows = datasets.simulate_screen(tmp_path / "csr", **options)
    columns = datasets.simulate_screen(
        tmp_path / "csc", **options, layout="csc", compression=compression
    )
    expected, found = anndata.read_h5ad(rows.expression).X, anndata.read_h5ad(columns.expression).X
    assert found.format == "csc"
    assert found.dtype == expected.dtype
    assert (found != expected).nnz == 0
    assert sorted(path.name for path in (tmp_path / "csc").iterdir()) == [
        "expression.h5ad",
        "guides.h5ad",
        "truth.h5ad",
    ]
