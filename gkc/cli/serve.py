"""``gkc serve``: the service."""

from __future__ import annotations

import signal
from typing import Annotated, Final

import typer

from gkc.cli.options import Store, load, whole_number
from gkc.extras import extra_needed
from gkc.settings import Settings
from gkc.store import parse_store_url

_OPEN_UNASKED: Final = (
    "anybody who reaches {host} could call; name their keys by GKC_API_KEYS_FILE or the authority "
    "of their certificates by GKC_TLS_CLIENT_CA_FILE, or let everybody by GKC_ALLOW_ANONYMOUS=1"
)


def run(
    store: Store = None,
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address to listen on (GKC_HOST; 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(0, 65535),
            metavar="PORT",
            help="TCP port; 0 takes a free one (GKC_PORT; 8000).",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1), metavar="N", help="Processes that answer (GKC_WORKERS; 1)."
        ),
    ] = None,
) -> None:
    """Serve what a store holds over HTTP, until SIGTERM or Ctrl-C.

    Other machines than this one are answered if GKC_API_KEYS_FILE, GKC_TLS_CLIENT_CA_FILE or
    GKC_ALLOW_ANONYMOUS=1 says who may call.

    Example: gkc serve --store file:./gkc-data --port 8000 --workers 2
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is what it has read anew
    with extra_needed("service", "gkc serve"):
        from gkc.http.serve import serve

    settings = load(Settings, store_url=store, host=host, port=port, workers=workers)
    if settings.is_open_unasked:
        raise typer.BadParameter(_OPEN_UNASKED.format(host=settings.host))
    where = parse_store_url(settings.store_url)

    def announce(line: str) -> None:
        typer.echo(line)
        if where.is_missing():
            typer.echo(f"gkc: no store at {where.path} yet, waiting for an export", err=True)

    serve(settings, announce)
