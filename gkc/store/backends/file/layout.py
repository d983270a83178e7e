"""What a file store calls its files, and the small ones read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gkc.errors import StoreFullError, StoreUnavailableError
from gkc.store.catalogue import Catalogue, read_catalogue
from gkc.store.durable import NO_ROOM, TEMPORARY, open_regular

CATALOGUE: Final = "catalogue.json"
CATALOGUE_LOCK: Final = "catalogue.lock"
LEASES: Final = "leases"
GENERATIONS: Final = "generations"
ITEMS: Final = "items.gkt"
USERS: Final = "users.gkt"
MANIFEST: Final = "manifest.json"
PROGRESS: Final = "progress.json"
GENERATION_FILES: Final = (
    MANIFEST,
    ITEMS,
    USERS,
    PROGRESS,
    MANIFEST + TEMPORARY,
    PROGRESS + TEMPORARY,
)
"""Every name that a generation's directory may hold, so that none has to be searched for."""


@contextmanager
def as_store_errors(store: str) -> Iterator[None]:
    """Turn what the file system refuses into StoreUnavailableError."""
    try:
        yield
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        cause = f"{where}{exc.strerror or exc}"
        if exc.errno in NO_ROOM:
            remedy = "make room there, then try again"
            raise StoreFullError(store, cause, remedy) from exc
        raise StoreUnavailableError(store, cause) from exc


def read_if_there(path: Path) -> bytes | None:
    """Read a small file whole, None if there is none."""
    try:
        fd = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read()


def load_catalogue(root: Path, store: str) -> Catalogue | None:
    """Read a namespace's catalogue, None if it has never had one.

    Raises
    ------
    CatalogueLostError
        If what is there is none.
    """
    with as_store_errors(store):
        raw = read_if_there(root / CATALOGUE)
    return read_catalogue(raw, store)
