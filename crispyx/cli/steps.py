"""``crispyx de plan | run-block | assemble``: a comparison in the steps of a batch system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click

from crispyx.cli.answers import Answer
from crispyx.cli.conduct import threads
from crispyx.cli.operation import Operation, command_of, plain
from crispyx.cli.operations import TESTS, tested, tested_line

THREADS = click.option(
    "-j",
    "--n-jobs",
    "--threads",
    "n_jobs",
    type=click.INT,
    help="Threads; all usable cores unless given.",
)
QUIET = click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
JSON = click.option("--json", "as_json", is_flag=True, help="Say everything as one JSON object.")


class PlannedTest(Operation):
    """The first step of a test: its options are the test's."""

    def invoked(self) -> Callable[..., Any]:
        """Return what plans the test."""
        from crispyx.de import plan_blocks

        return partial(plan_blocks, method=self.name.replace("nb-glm", "nb_glm"))


def _planned(value: Any, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "folder": str(value.folder),
        "output": str(value.output),
        "n_blocks": value.n_blocks,
        "passes": [
            {"name": name, "first": numbers[0], "last": numbers[-1]}
            for name, numbers in value.passes.items()
        ],
    }


def _planned_line(facts: Mapping[str, Any]) -> str:
    passes = ", then ".join(f"{p['first']}-{p['last']} ({p['name']})" for p in facts["passes"])
    return (
        f"blocks {passes}: crispyx de run-block {facts['folder']} --block N for each, then "
        f"crispyx de assemble {facts['folder']}"
    )


@click.group()
def plan() -> None:
    """Prepare a test whose blocks are computed by jobs of a batch system."""


for _test in TESTS:
    plan.add_command(
        command_of(
            PlannedTest(
                **{
                    **vars(_test),
                    "help": f"Plan, in blocks: {_test.help[0].lower()}{_test.help[1:]}",
                    "facts": _planned,
                    "sentence": _planned_line,
                    "without": (*_test.without, "resume", "checkpoint_interval"),
                }
            )
        )
    )


@click.command("run-block")
@click.argument("folder")
@click.option("--block", type=click.INT, required=True, help="Number of the block.")
@THREADS
@QUIET
@JSON
def run_block(folder: str, block: int, n_jobs: int | None, quiet: bool, as_json: bool) -> None:
    """Compute one block of FOLDER, which `crispyx de plan` made, unless it is there.

    In Python: crispyx.de.run_block.
    """
    answer = Answer(quiet=quiet, as_json=as_json)
    with answer.running(), threads(n_jobs):
        from crispyx.de import run_block

        path = run_block(folder, block)
    facts = {"command": "run-block", "input": folder, "block": block, "output": str(path)}
    answer.done(facts, f"block {block} -> {path}")


@click.command()
@click.argument("folder")
@click.option("--keep", is_flag=True, help="Keep FOLDER.")
@THREADS
@QUIET
@JSON
def assemble(folder: str, keep: bool, n_jobs: int | None, quiet: bool, as_json: bool) -> None:
    """Write the result from the blocks in FOLDER, which must all be there.

    In Python: crispyx.de.assemble_blocks.
    """
    answer = Answer(quiet=quiet, as_json=as_json)
    with answer.running(), threads(n_jobs):
        from crispyx.de import assemble_blocks

        facts = tested(assemble_blocks(folder, keep=keep), folder, {})
    answer.done(plain({"command": "assemble", "input": folder, **facts}), tested_line(facts))
