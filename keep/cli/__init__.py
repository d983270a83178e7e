"""The ``keep`` command: one module per subcommand, each parse, call, print."""

from __future__ import annotations

from typing import Annotated

from gkc.command_line import Commands, run, version_option
from keep.cli import import_
from keep.cli.bundle import bundle_command
from keep.cli.distil import distil_command
from keep.cli.drift import drift_command
from keep.cli.fetch import fetch
from keep.cli.pretrain import pretrain_command
from keep.cli.reproduce import reproduce_command
from keep.cli.simulate import simulate

app = Commands(no_args_is_help=True)
app.command()(fetch)
app.add_typer(import_.app, name="import")
app.command()(simulate)
app.command("pretrain", short_help="Pretrain teacher and students on a log, day by day.")(
    pretrain_command
)
app.command("distil", short_help="Teach a checkpoint's students once more, from the teacher.")(
    distil_command
)
app.command("bundle", short_help="Write a checkpoint as a bundle for gkc-export.")(bundle_command)
app.command("reproduce", short_help="Train and compare the systems of the paper's tables.")(
    reproduce_command
)
app.command("drift", short_help="Measure what knowledge of another version costs a model.")(
    drift_command
)


@app.callback()
def _keep(version: Annotated[bool, version_option("keep")] = False) -> None:
    """Make logs, pretrain on them and bundle what the general knowledge center serves."""


def main() -> None:
    """Run ``keep``: exit 0 done, 1 failed with one line on stderr, 2 wrong usage."""
    run(app, "keep")
