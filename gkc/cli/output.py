"""How commands print for people."""

from __future__ import annotations

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 200


def console() -> Console:
    """Return a console on standard output; wide enough for every table if it is no terminal."""
    shown = Console()
    return shown if shown.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)
