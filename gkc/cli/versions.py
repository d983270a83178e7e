"""``gkc versions``: list, show, pin, unpin, roll back and delete what is served."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import orjson
import typer
from rich.table import Table

from gkc.cli.options import AsJson, Store, load, reader_of
from gkc.cli.output import console
from gkc.errors import CommandError, GenerationCorruptError, GenerationNotFoundError
from gkc.service.listing import VersionInfo, VersionList, version_list
from gkc.settings import StoreSettings
from gkc.store import Catalogue, KnowledgeReader, Publisher, open_publisher

app = typer.Typer(
    help="List, show, pin, unpin, roll back and delete versions.\n\n"
    "Example: gkc versions list --json",
    invoke_without_command=True,
    rich_markup_mode=None,
)

Version = Annotated[str, typer.Argument(metavar="VERSION", help="A version's name.")]


@app.callback()
def default(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """List the versions if no subcommand says otherwise."""
    context.obj = store
    if context.invoked_subcommand is None:
        list_versions(context, store, as_json)


@app.command("list")
def list_versions(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """List the versions, newest first; --json prints the body of GET /versions.

    Example: gkc versions list --json
    """
    listed = _read(_settings(context, store))
    if as_json:
        print(listed.model_dump_json())
        return
    if not listed.versions:
        print("no versions; export one with gkc-export")
        return
    table = Table(title=f"{len(listed.versions)} of at most {listed.max_versions} versions")
    for heading in ("version", "generation", "published", "users", "items", "pairs", "bytes", ""):
        table.add_column(heading)
    for info in listed.versions:
        notes = ("pinned" if info.pinned else "", "" if info.ready else "damaged")
        table.add_row(
            info.version,
            info.generation,
            info.published_at,
            f"{info.users:,}",
            f"{info.items:,}",
            f"{info.user_categories:,}",
            f"{info.bytes:,}",
            " ".join(filter(None, notes)),
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
    _tell(_info(_read(settings), version, settings), as_json=as_json)


@app.command()
def pin(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Protect a version from eviction.

    Example: gkc versions pin 20211220
    """
    with _publisher(settings := _settings(context, store)) as publisher:
        publisher.set_pinned(version, pinned=True)
    _tell(_info(_read(settings), version, settings), as_json=as_json)


@app.command()
def unpin(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Let a version be evicted again.

    Example: gkc versions unpin 20211220
    """
    with _publisher(settings := _settings(context, store)) as publisher:
        publisher.set_pinned(version, pinned=False)
    _tell(_info(_read(settings), version, settings), as_json=as_json)


@app.command()
def rollback(
    context: typer.Context, version: Version, store: Store = None, as_json: AsJson = False
) -> None:
    """Swap a version's current and previous generation; doing it twice undoes it.

    Example: gkc versions rollback 20211220
    """
    with _publisher(settings := _settings(context, store)) as publisher:
        publisher.rollback(version)
    _tell(_info(_read(settings), version, settings), as_json=as_json)


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
        float, typer.Option(min=0.0, help="Seconds that services have to let go of it.")
    ] = 10.0,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Leave the deletion of data to the next writer.")
    ] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Take a version out of service, then delete its data after the grace period.

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
    publisher = open_publisher(settings.store_url, settings.namespace)
    try:
        yield publisher
    finally:
        publisher.close()


def _read(settings: StoreSettings) -> VersionList:
    async def read() -> VersionList:
        reader = reader_of(settings)
        try:
            catalogue = await reader.catalogue()
            readable = await _readable(reader, catalogue) if catalogue else set()
        finally:
            await reader.close()
        return version_list(catalogue, lambda _, generation: generation in readable)

    return asyncio.run(read())


async def _readable(reader: KnowledgeReader, catalogue: Catalogue) -> set[str]:
    """Return the current generations whose manifest can be read from the store."""
    readable = set()
    for entry in catalogue.versions.values():
        try:
            await reader.manifest(entry.current)
        except (GenerationNotFoundError, GenerationCorruptError):
            continue  # told by its absence: the list says "ready": false
        readable.add(entry.current)
    return readable


def _info(listed: VersionList, version: str, settings: StoreSettings) -> VersionInfo:
    for info in listed.versions:
        if info.version == version:
            return info
    there = ", ".join(info.version for info in listed.versions) or "none"
    raise CommandError(
        f"version {version!r} is not in {settings.store_url}; versions there: {there}"
    )


def _tell(info: VersionInfo, *, as_json: bool) -> None:
    if as_json:
        print(info.model_dump_json())
        return
    table = Table(show_header=False)
    for name, value in info.model_dump().items():
        table.add_row(name, f"{value:,}" if type(value) is int else str(value))
    console().print(table)
