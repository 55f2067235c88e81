"""The tests of control cells against control cells, design after design."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.paths import prepare_output
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.batches import read_batches
from crispyx._jobs.screen import Screen
from crispyx._run.progress import track
from crispyx._run.quiet import leaving_out
from crispyx.data.normalize import normalize_total_log1p
from crispyx.de.calibration_methods import FUNCTIONS
from crispyx.de.calibration_tables import (
    ALL_GENES,
    BINS,
    EDGES,
    KIND,
    TABLES,
    quantiles_of,
    shares_of,
)
from crispyx.de.null_designs import Cells, Design, depth_designs, guide_designs, split_designs
from crispyx.de.null_files import (
    CONTROL,
    count_rows,
    label_column,
    pseudo_name,
    write_control,
    write_thinned,
)
from crispyx.errors import CrispyxWarning, InputError

if TYPE_CHECKING:
    import pandas as pd

BYTES_PER_STORED = 12  # of a copy of the control on disk; its logarithms and a thinned copy beside


@dataclass
class Study:
    """The designs of one screen, tested one after the other."""

    source: MatrixSource
    screen: Screen
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    numbers: Mapping[str, Any]
    scratch: Path
    n_jobs: int | None
    memory_limit_gb: float | None

    def prepare(self, batch_column: str | None, guide_column: str | None) -> None:
        """Count, draw the designs, and write the control's cells."""
        totals, n_values = count_rows(self.source, self.scratch)
        batches = read_batches(self.source, batch_column).of_cell
        members = self._members()
        in_control = np.zeros(len(totals), dtype=bool)
        in_control[members[0]] = True
        in_control &= (batches >= 0) & (totals > 0)
        self.depth, cells = self._depths(totals, batches, in_control, members[1:])
        in_one_batch = len(np.unique(batches[in_control])) == 1
        self.batch = None if in_one_batch else batches[in_control]
        number, state = self.numbers, self.numbers["random_state"]
        self.designs = list(
            split_designs(
                cells, number["n_splits"], number["n_groups"], number["match_depth"], state
            )
        )
        if guide_column is not None:
            labels = as_labels(self.source.obs.column(guide_column))
            guides = np.array(["" if one is None else one for one in labels[in_control]])
            of_guides = list(guide_designs(guides, number["min_cells_pert"]))
            if not of_guides:
                raise InputError(
                    f"no control guide in obs column {guide_column!r} has from "
                    f"{number['min_cells_pert']} cells to half of the control's "
                    f"{int(in_control.sum())}; see min_cells_pert="
                )
            self.designs += of_guides
        shift = dict(zip(self.depth["perturbation"], self.depth["shift"], strict=True))
        shifted = np.array([shift[name] != "" for name in cells.names])
        self.designs += depth_designs(cells, shifted, number["n_splits"], number["n_groups"], state)
        n_stored = int(n_values[in_control].sum())
        self.control = self.scratch / "control.h5ad"
        prepare_output(self.control, (), 3 * BYTES_PER_STORED * n_stored)
        whole_cells = [one for one in self.designs if not one.is_thinned]
        genes = self.screen.genes
        write_control(
            self.source, in_control, n_stored, genes, whole_cells, self.batch, self.control
        )
        self.mean_count = self._mean_counts()

    def run(self, show: bool | None) -> dict[str, pd.DataFrame]:
        """Test every design by every method; return the tables."""
        import pandas as pd

        found: dict[tuple[str, str], list[tuple[str, np.ndarray]]] = {}
        for design in track(
            self.designs, total=len(self.designs), label=KIND, unit="split", show=show
        ):
            with self._files(design) as (counts, logs):
                for name in self.methods:
                    pvalues = self._tested(name, design, counts, logs)
                    found.setdefault((design.kind, name), []).extend(
                        zip(design.names, pvalues, strict=True)
                    )
        tables = {
            "bins": self._bins(found),
            "quantiles": self._quantiles(found),
            "depth": self.depth,
            "depth_effect": self._depth_effect(found),
            "groups": pd.DataFrame([row for one in self.designs for row in _rows(one)]),
        }
        return {name: tables[name] for name in TABLES}

    def _members(self) -> list[np.ndarray]:
        """Return the cells of the control and of each perturbation."""
        membership = self.screen.membership
        cell = np.repeat(np.arange(len(membership.ptr) - 1), np.diff(membership.ptr))
        order = np.argsort(membership.groups, kind="stable")
        return np.split(cell[order], np.cumsum(membership.sizes)[:-1])

    def _depths(
        self,
        totals: np.ndarray,
        batches: np.ndarray,
        in_control: np.ndarray,
        members_of: list[np.ndarray],
    ) -> tuple[pd.DataFrame, Cells]:
        import pandas as pd

        limit, least = self.numbers["max_depth_shift"], self.numbers["min_cells_pert"]
        if in_control.sum() < 2 * least:
            raise InputError(
                f"{int(in_control.sum())} control cells ({self.screen.control_label!r}) with "
                f"counts are too few to split into groups of {least}; see min_cells_pert="
            )
        middle = float(np.median(totals[in_control]))
        n_batches = int(batches.max()) + 1
        controls = np.bincount(batches[in_control], minlength=n_batches)
        rows, in_batch = [], []
        for name, carrying in zip(self.screen.groups, members_of, strict=True):
            members = carrying[batches[carrying] >= 0]
            median = float(np.median(totals[members])) if len(members) else np.nan
            ratio = median / middle
            shift = "shallower" if ratio < 1 - limit else ""
            shift = "deeper" if ratio > 1 / (1 - limit) else shift
            rows.append((name, len(members), median, ratio, shift))
            in_batch.append(np.bincount(batches[members], minlength=n_batches))
        table = pd.DataFrame(
            rows, columns=["perturbation", "n_cells", "median_count", "ratio", "shift"]
        )
        large = np.flatnonzero(table["n_cells"] >= least)
        if not len(large):
            raise InputError(f"no perturbation has {least} cells; see min_cells_pert=")
        cells = Cells(
            tuple(self.screen.groups[k] for k in large),
            np.array(in_batch)[large] * (controls > 1),
            table["ratio"].to_numpy()[large],
            batches[in_control],
        )
        return table, cells

    def _mean_counts(self) -> np.ndarray:
        sums = np.zeros(self.source.shape[1])
        with open_source(self.control) as control:
            for block in control.native_blocks():
                sums += np.bincount(block.minor, block.values, len(sums))
            return sums / control.shape[0]

    @contextmanager
    def _files(self, design: Design) -> Iterator[tuple[Path, Path]]:
        """Yield the files of counts and of logarithms; those of thinned cells are removed."""
        counts = self.control
        if design.is_thinned:
            counts = self.scratch / "thinned.h5ad"
            with open_source(self.control) as control:
                state = self.numbers["random_state"]
                write_thinned(control, self.screen.genes, design, self.batch, state, counts)
        logs = counts.with_name(f"log_{counts.name}")
        takes_logs = any(function != "nb_glm" for function, _ in self.methods.values())
        if takes_logs and not logs.exists():
            normalize_total_log1p(counts, logs, verbose=False)
        yield counts, logs
        if design.is_thinned:
            counts.unlink()
            logs.unlink(missing_ok=True)

    def _tested(self, name: str, design: Design, counts: Path, logs: Path) -> np.ndarray:
        """Return p (n_groups, n_genes)."""
        function, given = self.methods[name]
        arguments: dict[str, Any] = {"min_cells_pert": 2, **given}
        if self.batch is None:
            arguments |= dict.fromkeys(arguments.keys() & {"batch_column", "covariates"})
        result = self.scratch / "result.h5ad"
        # What a test has to say of the data, it says of the screen itself, not of every split.
        with leaving_out(CrispyxWarning):
            tested = FUNCTIONS[function](
                counts if function == "nb_glm" else logs,
                perturbation_column=label_column(design),
                control_label=CONTROL,
                perturbations=[pseudo_name(k + 1) for k in range(len(design.names))],
                output_path=result,
                n_jobs=self.n_jobs,
                memory_limit_gb=self.memory_limit_gb,
                force=True,
                **arguments,
            )
        pvalues = np.array(tested.pvalues)
        result.unlink()
        return pvalues

    def _place(self) -> np.ndarray:
        return np.searchsorted(EDGES, self.mean_count, "right") - 1

    def _bins(self, found: Mapping[tuple[str, str], list[Any]]) -> pd.DataFrame:
        import pandas as pd

        rows, place = [], self._place()
        for (kind, method), parts in found.items():
            table = np.stack([p for _, p in parts])
            for name, inside in (
                (ALL_GENES, np.ones(len(place), dtype=bool)),
                *((name, place == b) for b, name in enumerate(BINS)),
            ):
                p = table[:, inside]
                row = {"kind": kind, "method": method, "mean_count": name}
                rows.append(row | shares_of(p[np.isfinite(p)]))
        return pd.DataFrame(rows)

    def _quantiles(self, found: Mapping[tuple[str, str], list[Any]]) -> pd.DataFrame:
        import pandas as pd

        parts = [pd.DataFrame({"kind": [], "method": [], "expected": [], "observed": []})]
        for (kind, method), tested in found.items():
            p = np.stack([one for _, one in tested])
            p = p[np.isfinite(p)]
            if len(p):
                table = pd.DataFrame(quantiles_of(p))
                parts.append(table.assign(kind=kind, method=method))
        return pd.concat(parts[1:] or parts, ignore_index=True)

    def _depth_effect(self, found: Mapping[tuple[str, str], list[Any]]) -> pd.DataFrame:
        import pandas as pd

        ratio = dict(zip(self.depth["perturbation"], self.depth["ratio"], strict=True))
        rows = []
        for (kind, method), parts in found.items():
            if kind != "depth":
                continue
            for name in dict.fromkeys(one for one, _ in parts):
                p = np.concatenate([one for label, one in parts if label == name])
                row = {"perturbation": name, "ratio": ratio[name], "method": method}
                rows.append(row | shares_of(p[np.isfinite(p)]))
        columns = ["perturbation", "ratio", "method", *shares_of(np.empty(0))]
        return pd.DataFrame(rows, columns=columns)


def _rows(design: Design) -> Iterator[dict[str, Any]]:
    sizes = np.bincount(design.labels, minlength=len(design.names) + 1)
    for k, name in enumerate(design.names):
        yield {
            "kind": design.kind,
            "split": design.split,
            "perturbation": name,
            "n_cells": int(sizes[k + 1]),
            "kept": float(design.kept[k + 1]),
            "control_kept": float(design.kept[0]),
        }
