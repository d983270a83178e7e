"""The exporter's settings, and the only place of it that reads the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ExportSettings(BaseSettings):
    """Where an export goes: flag, then environment, then default."""

    model_config = SettingsConfigDict(env_prefix="GKC_", frozen=True, extra="ignore")

    store_url: str = "file:./gkc-data"
    """The store; the default is a directory beside the caller, which needs no server."""

    namespace: str = Field(default="default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Which of the centers that share the store."""
