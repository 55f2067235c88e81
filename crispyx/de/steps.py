"""A comparison in the steps that a batch system takes: plan, blocks in any order, assembly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crispyx._io.source import locked
from crispyx._jobs import block_work
from crispyx._jobs.block_folder import BlockFolder
from crispyx._jobs.block_work import MANIFEST, Manifest
from crispyx._jobs.stage import close_stages
from crispyx._run.executor import chosen_executor
from crispyx._run.fingerprint import input_paths
from crispyx._run.threads import resolve_threads
from crispyx.de.comparison import Call, compare
from crispyx.de.elsewhere import InSteps, Planned
from crispyx.de.rank_genes_groups import METHODS
from crispyx.de.results import RankGenesGroupsResult
from crispyx.errors import InputError, OutputExistsError


@dataclass(frozen=True)
class BlockPlan:
    """A comparison that has been planned.

    Attributes
    ----------
    folder : pathlib.Path
        What :func:`run_block` and :func:`assemble_blocks` are given; all who compute must see it.
    output : pathlib.Path
        Where the result will be.
    passes : dict of str to range
        Numbers of the blocks of every pass over the genes. All blocks of a pass must be complete
        before the next one begins.
    """

    folder: Path
    output: Path
    passes: dict[str, range]

    @property
    def n_blocks(self) -> int:
        """Blocks of all passes."""
        return sum(map(len, self.passes.values()))


def plan_blocks(data: Any, method: str = "wilcoxon", **options: Any) -> BlockPlan:
    """Prepare a comparison whose blocks are computed by jobs of a batch system.

    The matrix is turned around, size factors are estimated, and blocks of genes with about as many
    non-zeros are listed in a manifest. Planning again keeps the blocks there are.

    Parameters
    ----------
    data : path or list of paths
        The screen.
    method : {"wilcoxon", "t-test", "nb_glm"}
        The test.
    **options
        Arguments of the test. ``executor`` turns the matrix around; ``memory_limit_gb`` is that of
        one job; ``force=True`` plans afresh.

    Returns
    -------
    BlockPlan
        Folder and blocks.

    Raises
    ------
    InputError
        Unknown method; data in memory; what the test refuses.
    OutputExistsError
        The result is there.
    CheckpointError
        Blocks of another computation are in the folder.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}; choose 'wilcoxon', 't-test' or 'nb_glm'")
    steps = InSteps(executor=chosen_executor(options.pop("executor", None)))
    options["resume"] = not options.get("force", False)
    try:
        found = METHODS[method](data, executor=steps, **options)
    except Planned:
        assert steps.planned is not None  # it says so
        return _plan_of(*steps.planned)
    raise OutputExistsError(
        f"{str(found.result_path)!r} holds this very result; give force=True to compute it again"
    )


def run_block(folder: str | Path, block: int, *, n_jobs: int | None = None) -> Path:
    """Compute one block of a plan, unless it is there.

    Parameters
    ----------
    folder : path
        Of the :class:`BlockPlan`.
    block : int
        Its number, from 0.
    n_jobs : int or None
        Threads; None takes ``crispyx.settings.n_threads``, else all cores, as does -1.

    Returns
    -------
    pathlib.Path
        The file of the block, which appears when it is complete.

    Raises
    ------
    CheckpointError
        No manifest, or one of another version; blocks of the pass before are missing.
    InputError
        No such block; the input was changed since it was planned.
    """
    place = BlockFolder(Path(folder))
    key, manifest = _manifest(place)
    n_blocks = manifest.n_blocks * len(manifest.work.passes)
    if not 0 <= block < n_blocks:
        raise InputError(f"block is {block}; {str(folder)!r} has the blocks 0 to {n_blocks - 1}")
    identity = place.identity(MANIFEST)
    assert identity is not None  # its key was read
    try:
        with locked(input_paths(identity)):
            block_work.run_block(str(place.path), key, int(block), resolve_threads(n_jobs))
    finally:
        close_stages()
    return place.tile(block)


def assemble_blocks(
    folder: str | Path, *, n_jobs: int | None = None, keep: bool = False
) -> RankGenesGroupsResult:
    """Write the result from the blocks of a plan, which must all be there.

    Parameters
    ----------
    folder : path
        Of the :class:`BlockPlan`; it is removed afterwards.
    n_jobs : int or None
        Threads; None takes ``crispyx.settings.n_threads``, else all cores, as does -1.
    keep : bool
        Keep the folder.

    Returns
    -------
    RankGenesGroupsResult
        As of the test; its file has the same bits.

    Raises
    ------
    CheckpointError
        Blocks are missing, or belong to another manifest; the message names them.
    InputError
        The input was changed since it was planned.
    """
    place = BlockFolder(Path(folder))
    call: Call = _manifest(place)[1].call
    running = replace(call.running, n_jobs=n_jobs, resume=True, executor=InSteps(folder=place.path))
    result = compare(call.data, call.method, call.selection, call.limits, running)
    if not keep:
        place.remove()
    return result


def _manifest(place: BlockFolder) -> tuple[str, Manifest]:
    key = place.key(MANIFEST)
    found = place.load(MANIFEST)
    assert found is not None  # its key was read
    return key, found[0]


def _plan_of(folder: BlockFolder, manifest: Manifest) -> BlockPlan:
    names = manifest.work.passes
    passes = {name: manifest.numbers(position) for position, name in enumerate(names)}
    return BlockPlan(folder.path, manifest.call.output, passes)
