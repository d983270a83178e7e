"""``gkc versions``: list, show, pin, unpin, roll back and delete what is served."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import orjson
import typer
from rich.table import Table

from gkc.center.listing import VersionInfo, VersionList
from gkc.cli.listing import read_listing
from gkc.cli.options import AsJson, Store, load, publisher_of, seconds
from gkc.cli.output import console
from gkc.errors import CommandError
from gkc.settings import StoreSettings
from gkc.store import Publisher, parse_store_url

app = typer.Typer(
    help="List, show, pin, unpin, roll back and delete versions.\n\n"
    "Example: gkc versions list --json",
    invoke_without_command=True,
    rich_markup_mode=None,
)

_KILO = 1000

Version = Annotated[str, typer.Argument(metavar="V", help="A version's name.")]


@app.callback()
def default(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """List the versions if no subcommand says otherwise."""
    context.obj = store
    if context.invoked_subcommand is None:
        list_versions(context, store, as_json)


@app.command("list")
def list_versions(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """List the versions, newest first.

    --json prints the body of GET /versions.

    Example: gkc versions list --json
    """
    listed = read_listing(_settings(context, store))
    if as_json:
        print(_json(listed))
        return
    if not listed.versions:
        print("no versions; export one with gkc-export")
        return
    print(f"{len(listed.versions)} of at most {listed.max_versions} versions")
    table = Table(box=None, pad_edge=False)
    for heading in ("version", "published"):
        table.add_column(heading)
    for heading in ("users", "items", "pairs", "size"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for info in listed.versions:
        state = "ready" if info.ready else "damaged"
        table.add_row(
            info.version,
            info.published_at,
            f"{info.users:,}",
            f"{info.items:,}",
            f"{info.user_categories:,}",
            _size(info.bytes),
            f"{state}, pinned" if info.pinned else state,
        )
    console().print(table)


@app.command()
def show(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Show one version.

    Example: gkc versions show 20211220
    """
    settings = _settings(context, store)
    _tell(_info(read_listing(settings), version, settings), as_json=as_json)


@app.command()
def pin(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Protect a version from eviction.

    Example: gkc versions pin 20211220
    """
    with _publisher(settings := _settings(context, store)) as publisher:
        publisher.set_pinned(version, pinned=True)
    _report(
        _info(read_listing(settings), version, settings),
        f"{version} is pinned: no export evicts it",
        as_json=as_json,
    )


@app.command()
def unpin(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Let a version be evicted again.

    Example: gkc versions unpin 20211220
    """
    with _publisher(settings := _settings(context, store)) as publisher:
        publisher.set_pinned(version, pinned=False)
    _report(
        _info(read_listing(settings), version, settings),
        f"{version} is no longer pinned",
        as_json=as_json,
    )


@app.command()
def rollback(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Swap a version's current and previous generation.

    Doing it twice undoes it.

    Example: gkc versions rollback 20211220
    """
    with _publisher(settings := _settings(context, store)) as publisher:
        publisher.rollback(version)
    info = _info(read_listing(settings), version, settings)
    done = f"{version} serves {info.generation}; rollback again returns to {info.previous}"
    _report(info, done, as_json=as_json)


@app.command()
def delete(
    context: typer.Context,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="A version's name.")
    ] = None,
    old_format: Annotated[
        bool,
        typer.Option("--old-format", help="Delete instead all that an earlier gkc left here."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Really delete; without it nothing happens.")
    ] = False,
    grace_seconds: Annotated[
        float,
        typer.Option(
            parser=seconds, metavar="SECONDS", help="How long services have to let go of it."
        ),
    ] = 10.0,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Leave the deletion of data to the next writer.")
    ] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Delete a version for good.

    It is out of service at once; its data are deleted after the grace period.

    Example: gkc versions delete 20211220 --yes
    """
    settings = _settings(context, store)
    if old_format == (version is not None):
        raise typer.BadParameter("name a version, or say --old-format")
    if version is None:
        _delete_old_format(settings, yes=yes, as_json=as_json)
        return
    with _publisher(settings) as publisher:
        entry = publisher.catalogue().version(version)
        if not yes:
            raise typer.BadParameter(
                f"version {version!r} would be deleted for good; add it to delete",
                param_hint="--yes",
            )
        publisher.delete(version, grace_seconds)
        if not no_wait and sys.stderr.isatty():
            print(f"waiting {grace_seconds:g} s for services to let go of it", file=sys.stderr)
        deleted = publisher.delete_retired(wait=not no_wait)
    generations = [g for g in (entry.current, entry.previous) if g is not None]
    if as_json:
        print(
            orjson.dumps(
                {"version": version, "generations": generations, "deleted": deleted}
            ).decode()
        )
    elif no_wait:
        print(f"{version} is out of service; the next writer deletes its data")
    else:
        print(f"{version} is deleted, with {' and '.join(generations)}")


def _delete_old_format(settings: StoreSettings, *, yes: bool, as_json: bool) -> None:
    if not yes:
        raise typer.BadParameter(
            f"all that an earlier gkc left in namespace {settings.namespace!r} would be deleted "
            "for good; add it to delete",
            param_hint="--yes",
        )
    with _publisher(settings) as publisher:
        deleted = publisher.delete_old_format()
    if as_json:
        print(orjson.dumps({"deleted": deleted}).decode())
    else:
        print(f"deleted {len(deleted)} generations of format 1 and their catalogue")


def _settings(context: typer.Context, store: str | None) -> StoreSettings:
    """Build the settings; --store may stand before or after the subcommand."""
    return load(StoreSettings, store_url=store or context.obj)


@contextmanager
def _publisher(settings: StoreSettings) -> Iterator[Publisher]:
    publisher = publisher_of(settings)
    try:
        yield publisher
    finally:
        publisher.close()


def _info(listed: VersionList, version: str, settings: StoreSettings) -> VersionInfo:
    for info in listed.versions:
        if info.version == version:
            return info
    there = ", ".join(info.version for info in listed.versions) or "none"
    raise CommandError(
        f"version {version!r} is not in {parse_store_url(settings.store_url).shown}; "
        f"versions there: {there}"
    )


def _tell(info: VersionInfo, *, as_json: bool) -> None:
    if as_json:
        print(_json(info))
        return
    table = Table(show_header=False)
    for name, value in msgspec.to_builtins(info).items():
        table.add_row(name, _shown(value))
    console().print(table)


def _json(listed: VersionInfo | VersionList) -> str:
    return msgspec.json.encode(listed).decode()


def _report(info: VersionInfo, done: str, *, as_json: bool) -> None:
    print(_json(info) if as_json else done)


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _size(size_bytes: int) -> str:
    """Return a size in the largest unit of which there is a whole one, as 6.1 GB."""
    size, units = float(size_bytes), iter(("kB", "MB", "GB", "TB"))
    unit = "B"
    while round(size, 1) >= _KILO and (larger := next(units, None)):
        size, unit = size / _KILO, larger
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
