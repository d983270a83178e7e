"""``gkc versions``: list, show, pin, unpin, roll back and delete what is served."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from typing import Annotated

import msgspec
import typer
from rich.table import Column, Table

from gkc.center.listing import VersionInfo
from gkc.cli.listing import read_listing
from gkc.cli.options import AsJson, Store, load, publisher_of
from gkc.cli.output import console, printable
from gkc.command_line import Commands, seconds
from gkc.errors import CommandError
from gkc.settings import StoreSettings
from gkc.store import Publisher, parse_store_url

app = Commands(
    help="List, show, pin, unpin, roll back and delete versions.\n\n"
    "Example: gkc versions list --json",
    invoke_without_command=True,
)

_KILO = 1000

Version = Annotated[str, typer.Argument(metavar="V", help="A version's name.")]


@app.callback()
def default(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """List the versions if no subcommand says otherwise."""
    if context.invoked_subcommand is None:
        list_versions(context, store, as_json)
    else:
        context.obj = store


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
    numbers = (Column(heading, justify="right") for heading in ("users", "items", "pairs", "size"))
    table = Table("version", "published", *numbers, "state", box=None, pad_edge=False)
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
    info = _info(_settings(context, store), version)
    if as_json:
        print(_json(info))
        return
    table = Table(show_header=False)
    for name, value in msgspec.to_builtins(info).items():
        table.add_row(name, _shown(value))
    console().print(table)


@app.command()
def pin(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Protect a version from eviction.

    Example: gkc versions pin 20211220
    """
    info = _changed(context, store, version, lambda p: p.set_pinned(version, pinned=True))
    print(_json(info) if as_json else f"{version} is pinned: no export evicts it")


@app.command()
def unpin(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Let a version be evicted again.

    Example: gkc versions unpin 20211220
    """
    info = _changed(context, store, version, lambda p: p.set_pinned(version, pinned=False))
    print(_json(info) if as_json else f"{version} is no longer pinned")


@app.command()
def rollback(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Swap a version's current and previous generation.

    Doing it twice undoes it.

    Example: gkc versions rollback 20211220
    """
    info = _changed(context, store, version, lambda p: p.rollback(version))
    done = f"{version} serves {info.generation}; rollback again returns to {info.previous}"
    print(_json(info) if as_json else done)


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
    with closing(publisher_of(settings)) as publisher:
        entry = publisher.catalogue().version(version)
        _require_yes(f"version {version!r}", yes=yes)
        publisher.delete(version, grace_seconds)
        if not no_wait and sys.stderr.isatty():
            print(f"waiting {grace_seconds:g} s for services to let go of it", file=sys.stderr)
        deleted = publisher.delete_retired(wait=not no_wait)
    generations = [g for g in (entry.current, entry.previous) if g is not None]
    if as_json:
        print(_json({"version": version, "generations": generations, "deleted": deleted}))
    elif no_wait:
        print(f"{version} is out of service; the next writer deletes its data")
    else:
        print(f"{version} is deleted, with {' and '.join(generations)}")


def _delete_old_format(settings: StoreSettings, *, yes: bool, as_json: bool) -> None:
    _require_yes(f"all that an earlier gkc left in namespace {settings.namespace!r}", yes=yes)
    with closing(publisher_of(settings)) as publisher:
        deleted = publisher.delete_old_format()
    if as_json:
        print(_json({"deleted": deleted}))
    else:
        print(f"deleted {len(deleted)} generations of format 1 and their catalogue")


def _require_yes(what: str, *, yes: bool) -> None:
    if not yes:
        detail = f"{what} would be deleted for good; add it to delete"
        raise typer.BadParameter(detail, param_hint="--yes")


def _settings(context: typer.Context, store: str | None) -> StoreSettings:
    """Build the settings; --store may stand before or after the subcommand."""
    if store and context.obj:
        raise typer.BadParameter("--store is given twice; give it once")
    return load(StoreSettings, store_url=store or context.obj)


def _changed(
    context: typer.Context, store: str | None, version: str, change: Callable[[Publisher], object]
) -> VersionInfo:
    """Change a version, and return what is told of it then."""
    settings = _settings(context, store)
    with closing(publisher_of(settings)) as publisher:
        change(publisher)
    return _info(settings, version)


def _info(settings: StoreSettings, version: str) -> VersionInfo:
    infos = {info.version: info for info in read_listing(settings).versions}
    if version in infos:
        return infos[version]
    raise CommandError(
        f"version {version!r} is not in {parse_store_url(settings.store_url).shown}; "
        f"versions there: {', '.join(infos) or 'none'}"
    )


def _json(answer: object) -> str:
    return msgspec.json.encode(answer).decode()


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(of_it)}" for name, of_it in value.items())
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def _size(size_bytes: int) -> str:
    """Return a size in the largest unit of which there is a whole one, as 6.1 GB."""
    size, units = float(size_bytes), iter(("kB", "MB", "GB", "TB"))
    unit = "B"
    while round(size, 1) >= _KILO and (larger := next(units, None)):
        size, unit = size / _KILO, larger
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
