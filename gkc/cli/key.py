"""``gkc key``: keys for callers of the service."""

from __future__ import annotations

from typing import Annotated

import typer

from gkc.command_line import Commands
from gkc.http.api_keys import NAME, line_of, new_key

app = Commands(
    help="Keys of those who may call the service.\n\nExample: gkc key new ranking",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keep ``new`` a subcommand, though it is the only one."""


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will call by it.")],
) -> None:
    """Print a new key on standard output, and on standard error the line that lets it in.

    The key is shown this once and kept nowhere: a service knows only its SHA-256, in the file that
    GKC_API_KEYS_FILE names.

    Example: gkc key new ranking
    """
    if not NAME.fullmatch(name):
        raise typer.BadParameter("a name is 1 to 64 of A-Z a-z 0-9 . _ -")
    key = new_key()
    typer.echo(key)
    typer.echo(line_of(name, key), err=True)
