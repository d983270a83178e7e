"""Options that measurements share."""

from __future__ import annotations

from typing import Annotated

import typer

Rounds = Annotated[int, typer.Option(min=1, help="Repeats of everything.")]
Seconds = Annotated[int, typer.Option(min=1, help="Of one run of the load.")]
Save = Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")]
