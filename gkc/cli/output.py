"""How commands print for people."""

from __future__ import annotations

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 200


def console() -> Console:
    """Return a console on standard output; wide enough for every table if it is no terminal.

    What it prints stands as it is: names in brackets are no markup.
    """
    shown = Console(markup=False, emoji=False)
    if shown.is_terminal:
        return shown
    return Console(markup=False, emoji=False, width=_WIDTH_WITHOUT_TERMINAL)


def printable(name: str) -> str:
    """Return a name, as Python would write it if a character of it cannot be seen."""
    return name if name.isprintable() else repr(name)
