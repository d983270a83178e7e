"""The ``gkc`` command: one module a subcommand, each parses, calls and prints."""

from __future__ import annotations

import logging
from typing import Annotated

from gkc.cli.export_table import run as export_table
from gkc.cli.get import run as get
from gkc.cli.join import run as join
from gkc.cli.key import app as key
from gkc.cli.lock import check, lock
from gkc.cli.serve import run as serve
from gkc.cli.verify import run as verify
from gkc.cli.versions import app as versions
from gkc.command_line import Commands, run, version_option
from gkc.logs import set_up_logging

app = Commands(
    help="General knowledge center: serve and look after exported knowledge.\n\n"
    "Example: gkc serve --store file:./gkc-data",
    no_args_is_help=True,
)


@app.callback()
def options(
    version: Annotated[bool, version_option("gkc")] = False,
) -> None:
    """Take the options that stand before any subcommand."""


app.command("serve")(serve)
app.add_typer(versions, name="versions")
app.command("get")(get)
app.command("join")(join)
app.command("export-table")(export_table)
app.command("verify")(verify)
app.command("lock")(lock)
app.command("check")(check)
app.add_typer(key, name="key")


def main() -> None:
    """Run the command; a foreseeable error is one line on standard error and exit status 1."""
    set_up_logging(logging.WARNING)
    run(app, "gkc")
