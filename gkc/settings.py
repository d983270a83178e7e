"""Every setting, and the only place that reads the environment: service, commands, exporter."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX: Final = "GKC_"
_TEST_PREFIX: Final = "GKC_TEST_"
_USER_CACHE_MB: Final = 64
_DAY_SECONDS: Final = 86_400
"""Longer than anybody means, and short enough for every clock of the system."""


def _require_name(path: object) -> object:
    if path == "":  # which would be the directory where a command happens to run
        raise ValueError("is empty; name a path, or do not set it")
    return path


_Path = Annotated[Path, BeforeValidator(_require_name)]


class StoreSettings(BaseSettings):
    """Which store a command or the service works on: flag, then environment, then default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    store_url: str = "file:./gkc-data"
    """The store; the default is a directory beside the caller, which needs no server."""

    namespace: str = Field(default="default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Which of the centers that share the store."""

    mirror_dir: _Path | None = None
    """Where this host keeps item tables of a Redis store, and notes of tables of a ``file:`` store
    that are whole: a cache, rebuilt when it is lost. By default a directory per user among the
    system's temporary files."""

    store_timeout_ms: int = Field(default=500, ge=1)
    """Longest time without a byte of the store while it owes an answer, and longest time to connect
    to it, in milliseconds; then the answer is 503."""


class CallerSettings(BaseSettings):
    """What a command that asks a running service can be told."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    api_key: SecretStr | None = None
    """The key to show to a service that asks for one; no flag, since others see those."""


class FollowingSettings(StoreSettings):
    """What whoever answers from a store can be told: the service, and clients in their process."""

    item_memory_mb: int = Field(default=4096, ge=0)
    """Mebibytes of item tables that are faulted into memory before their first request; tables
    beyond it are mapped all the same, and slower while cold."""

    refresh_ms: int = Field(default=200, ge=1)
    """Pause between two looks at the catalogue, in milliseconds; well within the second in which
    a publication has to be served."""

    stale_seconds: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    """How many seconds old an answer may be at most while the store is away, for callers who allow
    it; 0: none is given that is older than two seconds."""


class Settings(FollowingSettings):
    """Everything that ``gkc serve`` can be told."""

    host: str = "127.0.0.1"
    """Address to listen on; only this machine unless told otherwise."""

    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port to listen on; 0 takes a free one."""

    workers: int = Field(default=1, ge=1, le=1024)
    """Processes that answer requests."""

    max_rows: int = Field(default=10_000, ge=1)
    """Most rows one request may ask for."""

    max_body_bytes: int = Field(default=8_388_608, ge=1)
    """Most bytes the body of one request may have."""

    request_timeout_ms: int = Field(default=10_000, ge=1)
    """Longest time from a request's head to its answer, in milliseconds; then the answer is 504.
    A caller may allow less."""

    api_keys_file: _Path | None = None
    """Lines ``NAME:SHA256`` of those who may call; without it, whoever reaches the address may."""

    admin_port: int | None = Field(default=None, ge=1, le=65535)
    """TCP port, without TLS, where anybody who reaches it gets metrics and the documentation, which
    are then nowhere else; by default they are beside the rest and ask for what that asks for."""

    tls_cert_file: _Path | None = None
    """PEM file of the service's certificate and those between it and its authority; with it the
    service speaks TLS."""

    tls_key_file: _Path | None = None
    """PEM file of the certificate's key, where that is not in the same file."""

    tls_client_ca_file: _Path | None = None
    """PEM file of the authorities of callers' certificates; with it callers must show one."""

    allow_anonymous: bool = False
    """Whether anybody may call who reaches an address other than loopback, where neither keys nor
    certificates are asked for; where they are, this changes nothing."""

    user_cache_mb: int | None = Field(default=None, ge=0)
    """Mebibytes of users' records that each worker keeps, for users who are asked for again and for
    when the store is away; 0 keeps none. By default 64 of a store behind a network, and none of a
    ``file:`` store, which is mapped memory already."""

    drain_delay_seconds: float = Field(default=0.0, ge=0, le=_DAY_SECONDS, allow_inf_nan=False)
    """Seconds from SIGTERM until the service stops listening: what load balancers need to send
    callers elsewhere. Meanwhile `/readyz` is 503, and each answer the last of its connection."""

    drain_seconds: float = Field(default=10.0, ge=0, le=_DAY_SECONDS, allow_inf_nan=False)
    """Seconds that requests under way have from then on; what is left is cut."""

    stuck_seconds: float = Field(default=30.0, ge=2, le=_DAY_SECONDS, allow_inf_nan=False)
    """Seconds that a worker's event loop may stand still before the worker is replaced."""

    ready_needs_store: bool = False
    """Whether `/readyz` is 503 after five seconds of failed looks at the catalogue. Every host
    fails them at the same time, so that a load balancer would be left without any."""

    @property
    def user_cache_bytes(self) -> int:
        """How much of users' records each worker keeps."""
        megabytes = self.user_cache_mb
        if megabytes is None:
            megabytes = 0 if self.store_url.startswith("file:") else _USER_CACHE_MB
        return megabytes * 1024 * 1024

    @property
    def is_open_unasked(self) -> bool:
        """Whether other machines could call without any proof, and nobody said that they may."""
        proof = self.api_keys_file or self.tls_client_ca_file
        return not (proof or self.allow_anonymous or _is_loopback(self.host))

    @field_validator("admin_port")
    @classmethod
    def _differ(cls, port: int | None, others: ValidationInfo) -> int | None:
        if port is not None and port == others.data.get("port"):
            raise ValueError("must be another port than GKC_PORT")
        return port

    @field_validator("tls_key_file", "tls_client_ca_file")
    @classmethod
    def _need_certificate(cls, path: Path | None, others: ValidationInfo) -> Path | None:
        if path and not others.data.get("tls_cert_file"):
            raise ValueError("needs GKC_TLS_CERT_FILE, the service's own certificate")
        return path


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that look like settings of ours but are none, with the nearest name."""
    known = sorted(known_variables())
    unknown = [
        name
        for name in sorted(environment)
        if name.upper().startswith(PREFIX)
        and not name.upper().startswith(_TEST_PREFIX)
        and name.upper() not in known
    ]
    return {
        name: difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0] for name in unknown
    }


def variable_warnings() -> list[str]:
    """Say which variables look like settings of ours but are none, a line each."""
    return [
        f"{name} is no setting of gkc; did you mean {nearest}?"
        for name, nearest in unknown_variables(os.environ).items()
    ]


def refusals(error: ValidationError, arguments: Collection[str] = ()) -> str:
    """Say in one line which settings were refused and why, by the names of their variables.

    Those that came by these arguments of a caller in Python go by their names there.
    """
    names = ["_".join(map(str, e["loc"])) for e in error.errors()]
    shown = [f"{n}=" if n in arguments else f"{PREFIX}{n.upper()}:" for n in names]
    told = [in_words(e["msg"]) for e in error.errors()]
    return "; ".join(f"{name} {words}" for name, words in zip(shown, told, strict=True))


def in_words(refusal: str) -> str:
    """Say what pydantic says, without what it says about itself."""
    plain = re.sub("Value error, |, unable to parse.*", "", refusal)
    return plain.replace("Input should be", "must be").replace("String should", "must")


def known_variables() -> frozenset[str]:
    """Return the names of all settings."""
    names = Settings.model_fields | CallerSettings.model_fields
    return frozenset(f"{PREFIX}{name.upper()}" for name in names)
