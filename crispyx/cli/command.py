"""The commands; each is imported when it is asked for, so that none pays for the others."""

from __future__ import annotations

from importlib import import_module

import click

from crispyx._version import __version__

# Name: module, attribute, text of the list. `operation` stands for a command made of one function.
COMMANDS = {
    "demo": ("demo.command", "demo", "Run the main job on an example screen, with a report."),
    "run": ("run.command", "run", "Run a whole screen as a .toml file says, with a report."),
    "guides": ("guides", "guides", "Call the guides of every cell from guide counts."),
    "info": ("info", "info", "Say what a file holds."),
    "read-10x": ("single", "read-10x", "Write genes and guides of a 10x matrix to files."),
    "qc": ("single", "qc", "Keep cells, perturbations and genes with enough counts."),
    "normalize": ("single", "normalize", "Scale cells to one total, take log(1 + x)."),
    "convert": ("conversion", "convert", "Write a matrix as CSR or CSC."),
    "sort": ("single", "sort", "Order cells by perturbation."),
    "subsample": ("single", "subsample", "Draw some of the cells."),
    "downsample": ("single", "downsample", "Draw some of the molecules of every cell."),
    "concat": ("single", "concat", "Join several files into one."),
    "compress": ("single", "compress", "Write a smaller file with the same numbers."),
    "disk-usage": ("estimates", "disk_usage", "Say how much a command would write."),
    "hvg": ("single", "hvg", "Mark highly variable genes."),
    "pca": ("single", "pca", "Add principal components."),
    "neighbors": ("single", "neighbors", "Add the graph of nearest cells."),
    "umap": ("single", "umap", "Add a UMAP."),
    "pseudobulk": ("several", "pseudobulk", "Profiles of groups of cells, and their differences."),
    "de": ("several", "de", "Compare every perturbation with the control, gene by gene."),
    "residual-effects": ("single", "residual-effects", "Effects beside covariates."),
    "shrink": ("single", "shrink", "Shrink the fold changes of a negative binomial result."),
    "calibration": ("single", "calibration", "Test control cells against control cells."),
    "report": ("single", "report", "Write one HTML page about a screen from its result files."),
    "completion": ("completion", "completion", "Print the completion script of a shell."),
}
EXIT_CODES = (
    "Exit codes: 0 done, 1 the data, the disk or a missing package is at fault, 2 wrong usage, "
    "3 done, but with guides that have no reliable fit (with --strict), 130 interrupted."
)


class _LateCommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        found: click.Command = getattr(import_module(f"crispyx.cli.{module}"), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(
    cls=_LateCommands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="crispyx")
def main() -> None:
    """Analyze single-cell CRISPR screens, from guide counts to differential expression.

    Options carry the names and defaults that parameters have in Python. Results go to files or
    standard output; messages and progress go to standard error.
    """
