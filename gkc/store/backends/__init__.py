"""Where knowledge can lie: a folder each, found by the scheme of the store's URL."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

from gkc.store.protocol import KnowledgeReader, Storage
from gkc.store.urls import StoreUrl

_BACKENDS: Final[Mapping[str, str]] = {
    "file": "gkc.store.backends.file",
    "redis": "gkc.store.backends.redis",
    "rediss": "gkc.store.backends.redis",
    "unix": "gkc.store.backends.redis",
}


class Backend(Protocol):
    """What a backend's folder has in its ``__init__``."""

    def open_reader(
        self, where: StoreUrl, namespace: str, mirror_dir: Path | None, timeout_ms: int
    ) -> KnowledgeReader:
        """Open a store for reading; connects at the first read."""
        ...

    def open_storage(self, where: StoreUrl, namespace: str) -> Storage:
        """Open a store for writing."""
        ...


def backend_of(where: StoreUrl) -> Backend:
    """Return the backend of a URL; only then are its libraries loaded."""
    backend: Backend = import_module(_BACKENDS[where.scheme])
    return backend
