"""The ``keep`` command: one module per subcommand, each parse, call, print."""

from __future__ import annotations

import sys

import typer

from gkc.errors import GkcError
from keep.cli import import_
from keep.cli.bundle import bundle_command
from keep.cli.drift import drift_command
from keep.cli.fetch import fetch
from keep.cli.pretrain import pretrain_command
from keep.cli.reproduce import reproduce_command
from keep.cli.simulate import simulate

app = typer.Typer(
    name="keep",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(fetch)
app.add_typer(import_.app, name="import")
app.command()(simulate)
app.command("pretrain")(pretrain_command)
app.command("bundle")(bundle_command)
app.command("reproduce")(reproduce_command)
app.command("drift")(drift_command)


@app.callback()
def _keep() -> None:
    """Make logs, pretrain on them and bundle what the general knowledge center serves."""


def main() -> None:
    """Run ``keep``: exit 0 done, 1 failed with one line on stderr, 2 wrong usage."""
    try:
        app()
    except (GkcError, OSError, MemoryError) as error:
        said = str(error) or "there is not enough memory here"
        print("keep: " + " ".join(said.split()), file=sys.stderr)
        raise SystemExit(1) from None
