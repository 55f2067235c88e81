"""The three files of a simulated screen."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.atomic import atomic_path
from crispyx._io.disk import reporting_full_disk
from crispyx._io.paths import prepare_output
from crispyx._io.writer import new_h5ad
from crispyx._run.progress import track
from crispyx.datasets.annotations import (
    cell_table,
    gene_table,
    guide_table,
    write_annotations,
    write_truth,
)
from crispyx.datasets.cell_blocks import (
    Cells,
    block_rows,
    draw_cells,
    effect_of_guides,
    expression_block,
    guide_block,
    log_fold_of_cells,
)
from crispyx.datasets.count_files import GrowingCounts, TurnedCounts
from crispyx.datasets.negative_binomial import cluster_rate
from crispyx.datasets.registry import NON_TARGETING
from crispyx.datasets.screen_model import OutputFormat, ScreenModel, ScreenTables, draw_tables
from crispyx.datasets.streams import CELLS_PER_BLOCK, Stream, generator
from crispyx.errors import OutputExistsError

_BYTES_PER_ENTRY = 8


def write_screen(
    folder: Path, model: ScreenModel, output: OutputFormat
) -> tuple[dict[str, Path], ScreenTables]:
    """Draw a screen and write it; return the paths by name, and the tables.

    The files appear under their names only when all three are complete.

    Raises
    ------
    OutputExistsError
        A file is there and ``output.overwrite`` is False.
    """
    paths = {name: folder / f"{name}.h5ad" for name in ("expression", "guides", "truth")}
    _refuse_existing(paths, output.overwrite)
    tables = draw_tables(model)
    for path in paths.values():
        prepare_output(path, needed_bytes=_expected_bytes(model, tables, output))
    cells = draw_cells(model, tables.guides.share)
    table = cell_table(cells, tables)
    parameters = _recorded(model)
    with ExitStack() as stack:
        stack.enter_context(reporting_full_disk(folder, str(paths["truth"])))
        write_truth(
            stack.enter_context(atomic_path(paths["truth"])), tables, cells, table, parameters
        )
        uns = {"control_label": NON_TARGETING, "simulation": parameters}
        shown = ["batch", "perturbation", "guide"] if output.with_labels else ["batch"]
        frames = {
            "expression": (table[shown], gene_table(tables)[[]]),
            "guides": (table[["batch"]], guide_table(tables)[["target"]]),
        }
        matrices: dict[str, GrowingCounts | TurnedCounts] = {}
        for name, (obs, var) in frames.items():
            file = stack.enter_context(new_h5ad(paths[name]))
            write_annotations(file, obs, var, uns)
            layout = output.layout if name == "expression" else "csr"
            matrix = GrowingCounts(
                file,
                len(var) if layout == "csr" else len(obs),
                dtype=output.dtype,
                compression=output.compression,
                layout=layout,
            )
            turned = layout == "csc"
            matrices[name] = TurnedCounts(matrix, len(var), folder) if turned else matrix
        _write_counts(model, tables, cells, matrices)
    return paths, tables


def _write_counts(
    model: ScreenModel,
    tables: ScreenTables,
    cells: Cells,
    matrices: dict[str, GrowingCounts | TurnedCounts],
) -> None:
    seed = model.design.seed
    guide_effects = effect_of_guides(tables)
    blocks = block_rows(model.design.n_cells)
    progress = track(
        blocks, total=len(blocks), label="simulate", unit=f" x {CELLS_PER_BLOCK:,} cells"
    )
    for block, rows in enumerate(progress):
        part = cells[rows]
        log_fold = log_fold_of_cells(part, guide_effects)
        rng = generator(seed, Stream.EXPRESSION, block)
        matrices["expression"].append(expression_block(rng, tables.genes, part, log_fold))
        rng = generator(seed, Stream.GUIDE_COUNTS, block)
        matrices["guides"].append(guide_block(rng, model.guides, part, tables.guides.share))
    for matrix in matrices.values():
        matrix.finish()


def _refuse_existing(paths: dict[str, Path], overwrite: bool) -> None:
    existing = [str(path) for path in paths.values() if path.exists()]
    if existing and not overwrite:
        raise OutputExistsError(
            f"{' and '.join(existing)} exist already; give overwrite=True to replace them, or "
            "another output_dir"
        )


def _expected_bytes(model: ScreenModel, tables: ScreenTables, output: OutputFormat) -> int:
    if output.compression is not None:
        return 0
    detected = -np.expm1(-cluster_rate(tables.genes.mean, tables.genes.dispersion))
    # A CSC file takes its scratch file beside it.
    files = 2 if output.layout == "csc" else 1
    return int(files * _BYTES_PER_ENTRY * model.design.n_cells * detected.sum())


def _recorded(model: ScreenModel) -> dict[str, Any]:
    """Return the parameters as they go into the files, None left out."""
    flat = {key: value for part in asdict(model).values() for key, value in part.items()}
    return {key: value for key, value in flat.items() if value is not None}
