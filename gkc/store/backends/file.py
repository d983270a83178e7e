"""The embedded store: table files in a directory, mapped by whoever reads them. No server.

::

    PATH/NAMESPACE/
        catalogue.json                  replaced in one step, under catalogue.lock
        leases/VERSION.lock             locked by the version's writer while it lives
        generations/ID/items.gkt        table files, see `gkc.store.table`
                       users.gkt
                       manifest.json    written last; progress.json until then

Everything is durable before anything that names it. A sealed generation never changes.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from gkc.arrays import I64, Bools
from gkc.errors import (
    CatalogueLostError,
    GenerationCorruptError,
    GenerationNotFoundError,
    LayoutError,
    StoreError,
    StoreUnavailableError,
)
from gkc.store.backends.file_lease import FileLease
from gkc.store.backends.file_writer import (
    CATALOGUE,
    CATALOGUE_LOCK,
    GENERATION_FILES,
    GENERATIONS,
    ITEMS,
    LEASES,
    USERS,
    FileSink,
    as_store_errors,
    read_manifest,
)
from gkc.store.catalogue import Catalogue
from gkc.store.durable import make_directory, replace_file
from gkc.store.generation import GenerationLayout, GenerationManifest, GenerationSpec
from gkc.store.protocol import ItemBlock, Lease, Progress
from gkc.store.sealed import canonical_json, sealed_json, unsealed_json
from gkc.store.table import MappedItemTable, MappedUserTable, TableHeader, TableKind
from gkc.store.table_check import verify_table
from gkc.store.urls import require_namespace

log = structlog.get_logger(__name__)

_LOCK_TIMEOUT_SECONDS: Final = 10.0
_LOCK_PAUSE_SECONDS: Final = 0.01


class FileReader:
    """Reads one namespace of an embedded store (a ``KnowledgeReader``).

    Parameters
    ----------
    path : Path
        The store's directory; need not exist yet.
    namespace : str
        Which of the centers that share it.

    Raises
    ------
    StoreUrlError
        If the namespace's name cannot be one.
    """

    def __init__(self, path: Path, namespace: str) -> None:
        self.store = f"file:{path}"
        require_namespace(self.store, namespace)
        self._root = path / namespace
        self._users: dict[str, MappedUserTable] = {}
        self._items: dict[str, MappedItemTable] = {}

    async def catalogue(self) -> Catalogue | None:
        """Read the catalogue; None if this namespace has never had one."""
        catalogue = _read_catalogue(self._root, self.store)
        self._let_go(set(catalogue.generations) if catalogue else set())
        return catalogue

    async def manifest(self, generation: str) -> GenerationManifest:
        """Read a generation's manifest."""
        with as_store_errors(self.store):
            manifest = read_manifest(self._root / GENERATIONS / generation, generation)
        if manifest is None:
            raise self._missing(generation, "manifest")
        return manifest

    async def item_table(self, manifest: GenerationManifest, memory_bytes: int) -> MappedItemTable:
        """Map a generation's items, wholly in memory if no larger than ``memory_bytes``."""
        return await asyncio.to_thread(self._prefaulted_items, manifest, memory_bytes)

    async def fetch_users(
        self, manifest: GenerationManifest, users: I64
    ) -> Sequence[bytes | memoryview | None]:
        """Read the records of distinct users, views of the mapped file; None for unknown ones."""
        table = self._users.get(manifest.generation)
        if table is None:
            table = self._users[manifest.generation] = self._open_users(manifest)
        return table.records_of(users)

    async def fetch_items(
        self, manifest: GenerationManifest, items: I64
    ) -> tuple[ItemBlock, Bools]:
        """Read distinct items; zeros and False for unknown ones."""
        table = self._items.get(manifest.generation)
        if table is None:
            table = self._items[manifest.generation] = self._open_items(manifest)
        rows = table.rows_of(items)
        known = rows >= 0
        found = table.take(rows[known])
        block = ItemBlock(
            ids=items,
            k_i=np.zeros((len(items), manifest.spec.vector_stride), dtype=np.uint8),
            categories=np.zeros(len(items), dtype=np.int64),
            has_category=np.zeros(len(items), dtype=np.bool_),
        )
        block.k_i[known] = found.k_i
        block.categories[known] = found.categories
        block.has_category[known] = found.has_category
        return block, known

    async def verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        """Re-read all of a generation: counts, checksums, order; ``progress`` counts rows."""
        await asyncio.to_thread(self._verify, manifest, progress)

    async def close(self) -> None:
        """Unmap what is mapped."""
        self._let_go(set())

    def _let_go(self, wanted: set[str]) -> None:
        """Unmap generations that the catalogue no longer names: their space returns only then."""
        for tables in (self._users, self._items):
            for generation in [g for g in tables if g not in wanted]:
                tables.pop(generation).close()

    def _prefaulted_items(self, manifest: GenerationManifest, memory_bytes: int) -> MappedItemTable:
        table = self._open_items(manifest)
        if table.size_bytes <= memory_bytes:
            with as_store_errors(self.store):
                table.prefault()
        return table

    def _open_items(self, manifest: GenerationManifest) -> MappedItemTable:
        with self._reading(manifest.generation, ITEMS) as path:
            table = MappedItemTable(path, manifest.generation)
        _require_same(manifest, ITEMS, table.header)
        return table

    def _open_users(self, manifest: GenerationManifest) -> MappedUserTable:
        with self._reading(manifest.generation, USERS) as path:
            table = MappedUserTable(path, manifest.generation)
        _require_same(manifest, USERS, table.header)
        return table

    def _verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        generation, spec, totals = manifest.generation, manifest.spec, manifest.totals
        with as_store_errors(self.store):
            stored = read_manifest(self._root / GENERATIONS / generation, generation)
        if stored is None:
            raise self._missing(generation, "manifest")
        if stored != manifest:
            raise GenerationCorruptError(generation, "its manifest is another one")
        kinds: dict[str, TableKind] = {ITEMS: "items", USERS: "users"}
        headers = {}
        for name, kind in kinds.items():
            with self._reading(generation, name) as path:
                headers[name] = verify_table(path, kind, generation, progress)
            _require_same(manifest, name, headers[name])
        pair_bytes = totals.user_categories * (8 + spec.category_stride)
        expected = totals.users * spec.vector_stride + pair_bytes
        found = headers[USERS].sections["records"].length
        if found != expected:
            raise GenerationCorruptError(generation, f"{found} bytes of users, not {expected}")

    @contextmanager
    def _reading(self, generation: str, name: str) -> Iterator[Path]:
        with as_store_errors(self.store):
            try:
                yield self._root / GENERATIONS / generation / name
            except FileNotFoundError as exc:
                raise self._missing(generation, name) from exc

    def _missing(self, generation: str, what: str) -> StoreError:
        """Return the error for a missing file: damage while the catalogue still needs it."""
        catalogue = _read_catalogue(self._root, self.store)
        needed = catalogue.in_state("staging", "published") if catalogue else {}
        if generation in needed:
            return GenerationCorruptError(generation, f"its {what} is missing")
        return GenerationNotFoundError(generation)


class FileStorage:
    """The writing side of one namespace of an embedded store (a ``Storage``).

    Parameters
    ----------
    path : Path
        The store's directory; made at the first write.
    namespace : str
        Which of the centers that share it.

    Raises
    ------
    StoreUrlError
        If the namespace's name cannot be one.
    """

    def __init__(self, path: Path, namespace: str) -> None:
        self.store = f"file:{path}"
        require_namespace(self.store, namespace)
        self._root = path / namespace

    def check_safe(self) -> None:
        """Do nothing: what was written is on disk before anything names it."""

    def read_catalogue(self) -> Catalogue | None:
        """Read the catalogue; None if this namespace has never had one."""
        return _read_catalogue(self._root, self.store)

    def swap_catalogue(self, expected: Catalogue | None, new: Catalogue) -> bool:
        """Replace the catalogue durably if it still is ``expected``; tell whether it was."""
        with as_store_errors(self.store):
            make_directory(self._root)
            with self._locked():
                if _read_catalogue(self._root, self.store) != expected:
                    return False
                raw = sealed_json(json.loads(new.to_bytes()))
                replace_file(self._root / CATALOGUE, raw)
        return True

    def acquire_lease(self, version: str, holder: str) -> Lease:
        """Become the one writer of a version, or raise VersionBusyError at once."""
        with as_store_errors(self.store):
            make_directory(self._root / LEASES)
            return FileLease(self._root / LEASES / f"{version}.lock", version, holder)

    def open_sink(
        self,
        generation: str,
        spec: GenerationSpec,
        lease: Lease,
        *,
        resume: bool,
    ) -> FileSink:
        """Start writing a generation, or go on with what an interrupted writer left of it."""
        lease.check(generation)
        directory = self._root / GENERATIONS / generation
        return FileSink(directory, self.store, generation, spec, resume=resume)

    def delete(self, generation: str, layout: GenerationLayout) -> None:
        """Delete a generation's files by their known names; nothing happens if they are gone."""
        directory = self._root / GENERATIONS / generation
        with as_store_errors(self.store):
            if not directory.exists():
                return
            for name in GENERATION_FILES:
                (directory / name).unlink(missing_ok=True)
            try:
                directory.rmdir()
            except OSError as exc:
                # Not ours to delete, and no reason to refuse every later export.
                log.warning("directory_kept", directory=str(directory), reason=exc.strerror)

    def wait_for_replicas(self) -> None:
        """Do nothing: there are none."""

    def close(self) -> None:
        """Do nothing: no file stays open."""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock under which the catalogue is replaced; the kernel frees a dead holder's."""
        fd = os.open(self._root / CATALOGUE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise StoreUnavailableError(
                            self.store, f"another process holds {CATALOGUE_LOCK} and does not end"
                        ) from None
                    time.sleep(_LOCK_PAUSE_SECONDS)
            yield
        finally:
            os.close(fd)


def _read_catalogue(root: Path, store: str) -> Catalogue | None:
    with as_store_errors(store):
        try:
            raw = (root / CATALOGUE).read_bytes()
        except FileNotFoundError:
            return None
    try:
        return Catalogue.from_bytes(canonical_json(unsealed_json(raw)))
    except (ValueError, LayoutError) as exc:
        raise CatalogueLostError(store, str(exc)) from exc


def _require_same(manifest: GenerationManifest, name: str, header: TableHeader) -> None:
    """Check that a table is the one that the manifest was written for."""
    if manifest.checksums.get(name) != header.crc32:
        raise GenerationCorruptError(manifest.generation, f"file {name} is not the one it was")
