"""Names of genes, labels and columns brought into one form."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.atomic import atomic_path
from crispyx._io.copies import copy_recorded
from crispyx._io.edits import replace_elements
from crispyx._io.elements import read_table
from crispyx._io.paths import resolve_data_path, standardized_name
from crispyx._jobs.labels import resolve_control_label
from crispyx._jobs.outputs import can_reuse
from crispyx._run.fingerprint import file_identity, fingerprint
from crispyx.data.arguments import PathLike
from crispyx.data.edits import in_memory, replace_table, storable
from crispyx.data.genes import ENSEMBL
from crispyx.data.ondisk import load_obs, load_var
from crispyx.errors import CrispyxWarning, InputError, MissingColumnError

if TYPE_CHECKING:
    import pandas as pd

COLUMN, CONTROL = "perturbation", "control"
CONTROL_ALIASES = (
    "ntc",
    "non-targeting",
    "non_targeting",
    "nontarget",
    "non-target",
    "non_target",
    "control",
    "ctrl",
    "scramble",
    "scrambled",
    "non-targeting control",
    "non-targeting-control",
)
UNMAPPED = ("keep", "error", "warn")
VERSION = re.compile(r"^(ENS[A-Z]*G\d{6,})\.\d+", re.IGNORECASE)


def standardize_dataset(
    dataset_path: PathLike,
    perturbation_column: str,
    control_label: str | None,
    gene_name_column: str | None,
    output_dir: PathLike,
    force: bool = False,
) -> Path:
    """Write a copy of a file with conventional names, or reuse the one made before.

    The perturbations stand in obs column ``perturbation``, the control is called ``control``, and
    the index of var is ``gene_name_column``. Everything else is copied as it is, bytes unread.

    Parameters
    ----------
    dataset_path : str or pathlib.Path
        The .h5ad file, which is only read.
    perturbation_column : str
        obs column of labels; a column ``perturbation`` beside it is an error.
    control_label : str or None
        Label of the control; None infers it, see :func:`resolve_control_label`.
    gene_name_column : str or None
        var column of gene names; repeated ones get ``-1``, ``-2``, ... appended. None keeps the
        index.
    output_dir : str or pathlib.Path
        The copy is ``{output_dir}/.cache/standardized_{stem}.h5ad``.
    force : bool
        Make the copy again, whatever is there.

    Returns
    -------
    pathlib.Path
        The copy.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        The control is absent or cannot be inferred; another label is called ``control`` already;
        obs has another column ``perturbation``.
    FileExistsError
        The copy of another file stands under the name.
    """
    source = resolve_data_path(dataset_path)
    output = standardized_name(source, Path(output_dir).expanduser())
    parameters = {
        "perturbation_column": perturbation_column,
        "control_label": control_label,
        "gene_name_column": gene_name_column,
    }
    identity = fingerprint("standardized", file_identity(source), parameters)
    if can_reuse(output, identity, force=force):
        return output
    obs = _standard_obs(read_table(source, "obs"), perturbation_column, control_label, source)
    elements = {"obs": storable(obs)}
    if gene_name_column is not None:
        elements["var"] = storable(_standard_var(read_table(source, "var"), gene_name_column))
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(output) as work:
        copy_recorded(source, work, identity)
        replace_elements(work, elements)
    return output


def standardise_gene_names(
    path: Any,
    *,
    column: str | None = None,
    strip_version: bool = True,
    normalise_mt_prefix: bool = True,
    lookup_symbols: bool = False,
    species: str = "human",
    unmapped_action: Literal["keep", "error", "warn"] = "warn",
    inplace: bool = True,
) -> pd.Series | None:
    """Bring the names of genes into one form.

    1. Versions of Ensembl identifiers are cut off: ``ENSG00000123456.4`` to ``ENSG00000123456``.
    2. The prefix ``mt-`` becomes ``MT-``.
    3. With ``lookup_symbols``, Ensembl identifiers become symbols, asked of mygene.info (package
       ``mygene``; needs the network).

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The .h5ad file or zarr store, changed in place; an AnnData in memory is changed itself.
    column : str or None
        var column; None takes the index.
    strip_version, normalise_mt_prefix, lookup_symbols : bool
        Steps to take.
    species : str
        Given to mygene.
    unmapped_action : {"keep", "error", "warn"}
        What happens to identifiers that mygene does not know; all but "error" keep them.
    inplace : bool
        Write the names to the file, else leave it alone and return them.

    Returns
    -------
    pandas.Series (n_genes,) of str, or None
        The names, indexed as var; None with ``inplace``.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        Another action; names in the index that become equal; an unknown identifier, if asked for.
    ImportError
        mygene is wanted and not installed.
    """
    import pandas as pd

    if unmapped_action not in UNMAPPED:
        raise InputError(f"unmapped_action is {unmapped_action!r}; choose one of {UNMAPPED}")
    var, where = _table(path, "var")
    _require_column(var, column, "var", where)
    before = var.index.to_numpy() if column is None else var[column].to_numpy()
    names = as_labels(np.asarray(before, dtype=object))
    if strip_version:
        names = _each(names, lambda name: VERSION.sub(r"\1", name))
    if normalise_mt_prefix:
        names = _each(names, lambda name: f"MT-{name[3:]}" if name.startswith("mt-") else name)
    if lookup_symbols:
        names = _symbols(names, species, unmapped_action)
    if not inplace:
        return pd.Series(names, index=var.index, name=column)
    if column is None:
        repeated = pd.Index(names)[pd.Index(names).duplicated()]
        if len(repeated) and var.index.is_unique:
            raise InputError(
                f"{repeated[0]!r} would name two genes of {str(where)!r}; give column= to change a "
                "column instead of the index, or switch a step off"
            )
        var.index = pd.Index(names, name=var.index.name)
    else:
        var[column] = names
    replace_table(path, "var", var)
    return None


def normalise_perturbation_labels(
    path: Any,
    column: str,
    *,
    strip_prefixes: Sequence[str] | None = None,
    strip_suffixes: Sequence[str] | None = None,
    strip_suffix_regex: str | None = None,
    control_aliases: Sequence[str] | None = None,
    canonical_control: str = "NTC",
    inplace: bool = True,
) -> pd.Series | None:
    """Bring the labels of perturbations into one form.

    In this order: the first prefix that fits is cut off, then the first suffix that fits, then what
    ``strip_suffix_regex`` matches; then every usual name of a control becomes
    ``canonical_control``.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The .h5ad file or zarr store, changed in place; an AnnData in memory is changed itself.
    column : str
        obs column of labels. Missing labels stay missing.
    strip_prefixes, strip_suffixes : sequence of str or None
        Such as ``["sg-", "sg"]`` and ``["_KO", "_P1P2"]``.
    strip_suffix_regex : str or None
        Python regular expression; all its matches are removed.
    control_aliases : sequence of str or None
        Names of the control beside the usual ones (ntc, non-targeting, control, ctrl, scramble and
        their spellings); case does not matter.
    canonical_control : str
        What they become.
    inplace : bool
        Write the labels to the file, as categories, else leave it alone and return them.

    Returns
    -------
    pandas.Series (n_cells,) of str, or None
        The labels, indexed as obs; None with ``inplace``.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        A regular expression that is none.
    """
    import pandas as pd

    obs, where = _table(path, "obs")
    _require_column(obs, column, "obs", where)
    labels = as_labels(obs[column].astype(object).where(obs[column].notna(), None).to_numpy())
    for names, anchor in ((strip_prefixes, "^{}"), (strip_suffixes, "{}$")):
        if names:
            either = "|".join(re.escape(name) for name in names)
            labels = _each(labels, partial(re.compile(anchor.format(f"(?:{either})")).sub, ""))
    if strip_suffix_regex is not None:
        try:
            pattern = re.compile(strip_suffix_regex)
        except re.error as error:
            raise InputError(
                f"strip_suffix_regex is {strip_suffix_regex!r}, which is no regular expression "
                f"({error})"
            ) from error
        labels = _each(labels, partial(pattern.sub, ""))
    aliases = {name.lower() for name in (*CONTROL_ALIASES, *(control_aliases or ()))}
    labels = _each(labels, lambda name: canonical_control if name.lower() in aliases else name)
    if not inplace:
        return pd.Series(labels, index=obs.index, name=column)
    obs[column] = pd.Categorical(labels)
    replace_table(path, "obs", obs)
    return None


def _table(data: Any, axis: str) -> tuple[pd.DataFrame, Path | str]:
    """Return obs or var, and what holds it."""
    where = "an AnnData in memory" if in_memory(data) else resolve_data_path(data)
    return (load_obs if axis == "obs" else load_var)(data), where


def _standard_obs(
    obs: pd.DataFrame, column: str, control_label: str | None, source: Path
) -> pd.DataFrame:
    import pandas as pd

    _require_column(obs, column, "obs", source)
    if column != COLUMN and COLUMN in obs.columns:
        raise InputError(
            f"obs of {str(source)!r} has a column {COLUMN!r} beside {column!r}; rename or remove it"
        )
    labels = as_labels(obs[column].astype(object).where(obs[column].notna(), None).to_numpy())
    control = resolve_control_label(labels, control_label)
    known = {label for label in labels if label is not None}
    if control not in known:
        raise InputError(f"control label {control!r} is not in obs column {column!r}")
    if control != CONTROL and CONTROL in known:
        raise InputError(
            f"obs column {column!r} holds {CONTROL!r} beside the control {control!r}; rename one"
        )
    labels[labels == control] = CONTROL
    obs = obs.rename(columns={column: COLUMN})
    obs[COLUMN] = pd.Categorical(labels)
    return obs


def _standard_var(var: pd.DataFrame, gene_name_column: str) -> pd.DataFrame:
    import pandas as pd
    from anndata.utils import make_index_unique

    _require_column(var, gene_name_column, "var", None)
    names = as_labels(var[gene_name_column].astype(object).to_numpy())
    missing = np.array([name is None for name in names], dtype=bool)
    names[missing] = np.asarray(var.index, dtype=object)[missing]
    var = var.copy()
    # The index may not go by the name of a column with other values.
    var.index = make_index_unique(pd.Index(names.astype(str)))
    return var


def _require_column(
    table: pd.DataFrame, column: str | None, axis: str, path: Path | str | None
) -> None:
    if column is not None and column not in table.columns:
        where = f" of {str(path)!r}" if path else ""
        raise MissingColumnError(
            f"{axis}{where} has no column {column!r}; it has: "
            f"{', '.join(map(str, table.columns)) or 'none'}"
        )


def _each(names: np.ndarray, change: Any) -> np.ndarray:
    known = {name: change(name) for name in set(names) if name is not None}
    return np.array([None if name is None else known[name] for name in names], dtype=object)


def _symbols(names: np.ndarray, species: str, unmapped_action: str) -> np.ndarray:
    try:
        import mygene
    except ImportError as error:
        raise ImportError("lookup_symbols=True asks mygene.info: pip install mygene") from error
    from tqdm import tqdm

    wanted = sorted({name for name in names if name is not None and ENSEMBL.fullmatch(name)})
    client = mygene.MyGeneInfo()
    symbols: dict[str, str] = {}
    for start in tqdm(range(0, len(wanted), 1000), desc="mygene", unit="batch", leave=False):
        answers = client.querymany(
            wanted[start : start + 1000],
            scopes="ensembl.gene",
            fields="symbol",
            species=species,
            verbose=False,
        )
        symbols |= {hit["query"]: hit["symbol"] for hit in answers if "symbol" in hit}
    unknown = [name for name in wanted if name not in symbols]
    if unknown and unmapped_action != "keep":
        text = f"mygene knows no symbol of {len(unknown)} of {len(wanted)} identifiers, such as "
        if unmapped_action == "error":
            raise InputError(f"{text}{unknown[0]!r}")
        warnings.warn(f"{text}{unknown[0]!r}; they are kept", CrispyxWarning, stacklevel=3)
    return _each(names, lambda name: symbols.get(name, name))
