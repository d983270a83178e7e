"""``gkc lock`` and ``gkc check``: a downstream model tied to what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gkc.cli.listing import read_listing
from gkc.cli.options import Store, load
from gkc.errors import CommandError, VersionNotFoundError
from gkc.extras import extra_needed
from gkc.lock import Lock
from gkc.settings import CallerSettings, StoreSettings
from gkc.store import parse_store_url

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Ask a running service instead, by its http:// URL, with the key in GKC_API_KEY if it "
        "asks for one.",
    ),
]


def lock(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The lock file to write.")
    ],
    version: Annotated[
        str | None, typer.Option(metavar="V", help="Lock what this version serves now.")
    ] = None,
    joined: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Lock what the rows of gkc join really came from."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Tie to the very generation, not to its vector space.")
    ] = False,
    store: Store = None,
    url: Url = None,
) -> None:
    """Write down what a model is trained on, to keep beside it.

    Give exactly one of --version, for what is served now, and --joined, for what joined rows came
    from.

    gkc check compares it with what is served, and a client with it refuses other knowledge. A
    re-export of the same models passes, unless --exact is given.

    Example: gkc lock --version 20211220 -o model.gkc-lock
    """
    if (version is None) == (joined is None):
        raise typer.BadParameter("name either a version or joined rows: --version or --joined")
    if version is not None:
        name, listing = _listing(store, url)
        known = [info["version"] for info in listing["versions"]]
        if version not in known:
            raise VersionNotFoundError(version, known)
        written = Lock.of(listing, [version], name, exact=exact)
    elif joined is not None and store is None and url is None:
        with extra_needed("offline", "gkc lock --joined"):
            from gkc.offline.sources import lock_of_joined
        written = lock_of_joined(joined, exact=exact)
    else:
        raise typer.BadParameter("joined rows say what they came from: no --store, no --url")
    _write(output, written)
    for name, of_version in written.versions.items():
        print(f"{name} is locked to {of_version.vector_space}, as of {of_version.generation}")


def _write(output: Path, lock: Lock) -> None:
    """Write a lock where nothing is, or the same lock: another one is of another model."""
    if output.exists():
        try:
            there = Lock.read(output)
        except CommandError as exc:
            raise CommandError(f"{output} is there, and is no lock; name another place") from exc
        if there != lock:
            raise CommandError(
                f"{output} locks something else ({', '.join(there.versions)}); remove it first if "
                "the model that it belongs to is gone, or name another place"
            )
        return
    try:
        output.write_bytes(lock.to_bytes())
    except OSError as exc:
        raise CommandError(f"{output} cannot be written: {exc.strerror}") from exc


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The lock file.")],
    exact: Annotated[
        bool, typer.Option("--exact", help="The very generation must be served.")
    ] = False,
    store: Store = None,
    url: Url = None,
) -> None:
    """Check that what is served is what a model was locked to.

    Exit status 1 if another vector space would answer, or nobody can be asked.

    Example: gkc check model.gkc-lock --url http://127.0.0.1:8000
    """
    read = Lock.read(file)
    name, listing = _listing(store, url)
    read.check(listing, name, exact=exact)
    print(f"{name} serves what was locked: {', '.join(read.versions)}")


def _listing(store: str | None, url: str | None) -> tuple[str, Mapping[str, Any]]:
    """Return whose listing it is, and the body of GET /versions."""
    if url is None:
        settings = load(StoreSettings, store_url=store)
        listing: Mapping[str, Any] = msgspec.to_builtins(read_listing(settings))
        return parse_store_url(settings.store_url).shown, listing
    if store is not None:
        raise typer.BadParameter("ask either a store or a service: --store or --url")
    from gkc.client import Client

    key = load(CallerSettings).api_key
    with Client(url, api_key=key.get_secret_value() if key else None) as client:
        return url, client.versions()
