"""The ``keep`` command: one module per subcommand, each parse, call, print."""

from __future__ import annotations

from gkc.command_line import Commands, run
from keep.cli import import_
from keep.cli.bundle import bundle_command
from keep.cli.drift import drift_command
from keep.cli.fetch import fetch
from keep.cli.pretrain import pretrain_command
from keep.cli.reproduce import reproduce_command
from keep.cli.simulate import simulate

app = Commands(no_args_is_help=True)
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
    run(app, "keep")
