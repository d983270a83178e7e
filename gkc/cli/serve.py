"""``gkc serve``: the service."""

from __future__ import annotations

from typing import Annotated

import typer

from gkc.cli.options import Store, load
from gkc.settings import Settings


def run(
    store: Store = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (GKC_HOST; 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one (8000).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that answer (GKC_WORKERS; 1).")
    ] = None,
) -> None:
    """Serve what a store holds over HTTP, until SIGTERM or Ctrl-C.

    Example: gkc serve --store file:./gkc-data --port 8000 --workers 2
    """
    # FastAPI and uvicorn take longer to import than the other commands take to run.
    from gkc.service.run import serve

    settings = load(Settings, store_url=store, host=host, port=port, workers=workers)
    serve(settings, lambda line: typer.echo(line))
