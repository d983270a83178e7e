"""Options that several commands share, and how flags become settings."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from gkc.settings import StoreSettings, refusals, variable_warnings
from gkc.store import KnowledgeReader, open_reader

SettingsT = TypeVar("SettingsT", bound=StoreSettings)

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="file:PATH, redis://, rediss:// or unix:// (GKC_STORE_URL; file:./gkc-data).",
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


def reader_of(settings: StoreSettings) -> KnowledgeReader:
    """Open the store that the settings name for reading."""
    return open_reader(
        settings.store_url,
        settings.namespace,
        mirror_dir=settings.mirror_dir,
        timeout_ms=settings.request_timeout_ms,
    )
