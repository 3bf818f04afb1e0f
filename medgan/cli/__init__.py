"""The command ``medgan``: one subcommand per verb, a file each, which imports what it needs only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medgan.cli.cases import cases
from medgan.cli.check import check
from medgan.cli.config import config
from medgan.cli.evaluate import evaluate
from medgan.cli.export import export
from medgan.cli.guard import guarded
from medgan.cli.phantom import phantom
from medgan.cli.plan import plan
from medgan.cli.preprocess import preprocess
from medgan.cli.report import report
from medgan.cli.sample import sample
from medgan.cli.slicer import slicer
from medgan.cli.train import train
from medgan.cli.translate import translate

__all__ = ["app", "guarded", "main", "run"]


class Verbs(TyperGroup):
    """The list of verbs as plain text: loading rich for its frames takes longer than all the rest of ``--help``."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, what it is, options, verbs."""
        self.rich_markup_mode = None
        super().format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each verb with its whole first sentence."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(1000)) for name, verb in self.commands.items()])


app = typer.Typer(
    cls=Verbs,
    help="Translate 3D medical volumes between modalities with segmentation-consistent GANs.",
    epilog="Exit codes: 0 fine, 1 something in the input to mend (one line says what), 2 a bug.",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        import medgan

        typer.echo(f"medgan {medgan.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


VERBS = (cases, check, plan, preprocess, train, translate, sample, evaluate, report, export, slicer, phantom, config)
for verb in VERBS:
    app.command()(verb)


def main() -> None:
    """The command: run it and exit."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, see `guarded`."""
    return guarded(lambda: app(args=arguments, prog_name="medgan", standalone_mode=False))
