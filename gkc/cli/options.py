"""Options that several commands share, and how flags become settings."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from gkc.settings import StoreSettings, refusals, variable_warnings
from gkc.store import KnowledgeReader, Publisher, open_publisher, open_reader, require_store

_MOST_SHOWN = 40

SettingsT = TypeVar("SettingsT", bound=BaseSettings)
AnswerT = TypeVar("AnswerT")

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="file:PATH, redis://, rediss:// or unix:// (GKC_STORE_URL; file:./gkc-data). "
        "GKC_NAMESPACE names one of the centers that share it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def load(settings: type[SettingsT], **flags: str | int | None) -> SettingsT:
    """Build settings from flags that were given, then the environment, then defaults.

    Variables that look like settings of ours but are none are warned about.

    Raises
    ------
    typer.BadParameter
        If a value is refused; names the setting.
    """
    for line in variable_warnings():
        typer.echo(f"gkc: warning: {line}", err=True)
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        return settings(**given)
    except ValidationError as exc:
        raise typer.BadParameter(refusals(exc)) from exc


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads an option's whole number, and says plainly what it has to be."""
    allowed = f"of at least {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        is_number = re.fullmatch(r"[+-]?[0-9]{1,20}", text) is not None
        if not is_number or int(text) < least or (most is not None and int(text) > most):
            raise typer.BadParameter(f"{shown(text)} is no whole number {allowed}")
        return int(text)

    return read


def shown(text: str) -> str:
    """Return what was typed in quotes; the begin of it, if it is long."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def read_store(
    settings: StoreSettings, read: Callable[[KnowledgeReader], Awaitable[AnswerT]]
) -> AnswerT:
    """Open the store that the settings name, and return what is read from it.

    Raises
    ------
    CommandError
        If it is a directory that does not exist: a misspelt path must not look like an empty store.
    """
    require_store(settings.store_url)
    reader = open_reader(
        settings.store_url,
        settings.namespace,
        mirror_dir=settings.mirror_dir,
        timeout_ms=settings.store_timeout_ms,
    )

    async def read_and_close() -> AnswerT:
        try:
            return await read(reader)
        finally:
            await reader.close()

    return asyncio.run(read_and_close())


def publisher_of(settings: StoreSettings) -> Publisher:
    """Open the store that the settings name for changes of what it serves.

    Raises
    ------
    CommandError
        If it is a directory that does not exist.
    """
    require_store(settings.store_url)
    return open_publisher(settings.store_url, settings.namespace)
