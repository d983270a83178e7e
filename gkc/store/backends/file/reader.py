"""The embedded store's reading side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from gkc.errors import GenerationCorruptError, StoreError
from gkc.store.backends.file.layout import (
    GENERATIONS,
    ITEMS,
    MANIFEST,
    USERS,
    as_store_errors,
    load_catalogue,
    read_if_there,
)
from gkc.store.catalogue import Catalogue, missing
from gkc.store.codec import UserBlock
from gkc.store.few_items import table_of_items
from gkc.store.generation import GenerationManifest, read_manifest, unpacked
from gkc.store.mirror import default_mirror_dir
from gkc.store.protocol import Progress
from gkc.store.table import ItemTable, MappedItemTable, MappedUserTable
from gkc.store.table_check import verify_table
from gkc.store.table_file import TableFile
from gkc.store.table_format import TableHeader, TableKind
from gkc.store.table_notes import Identity, TableNotes
from gkc.store.urls import require_namespace
from gkc.strings import Ids

_USERS_AT_ONCE: Final = 1024

_TableT = TypeVar("_TableT", MappedItemTable, MappedUserTable)


class FileReader:
    """Reads one namespace of an embedded store (a ``KnowledgeReader``).

    `fetch_users` never pauses, and threads other than the loop's may run it.

    Parameters
    ----------
    path : Path
        The store's directory; need not exist yet.
    namespace : str
        Which of the centers that share it.
    mirror_dir : Path, optional
        Where this host notes which tables were found whole.

    Raises
    ------
    StoreUrlError
        If the namespace's name cannot be one.
    """

    def __init__(self, path: Path, namespace: str, mirror_dir: Path | None = None) -> None:
        self.store = f"file:{path}"
        require_namespace(self.store, namespace)
        self._root = path / namespace
        self._users: dict[str, MappedUserTable] = {}
        self._items: dict[str, MappedItemTable] = {}
        self._notes = TableNotes(mirror_dir or default_mirror_dir())

    async def catalogue(self) -> Catalogue | None:
        """Read the catalogue; None if this namespace has never had one."""
        catalogue = load_catalogue(self._root, self.store)
        self._let_go(set(catalogue.generations) if catalogue else set())
        return catalogue

    async def manifest(self, generation: str) -> GenerationManifest:
        """Read a generation's manifest."""
        return self._read_manifest(generation)

    async def item_table(self, manifest: GenerationManifest, memory_bytes: int) -> MappedItemTable:
        """Map a generation's tables, items in memory if they are no larger than so many bytes."""
        return await asyncio.to_thread(self._prefaulted_items, manifest, memory_bytes)

    def has_changed(self, items: ItemTable) -> bool:
        """Tell whether somebody wrote to the tables of a generation since they were found whole."""
        return any(file.has_changed() for file in self._files_of(items))

    def scrub(self, items: ItemTable) -> Iterator[None]:
        """Re-read the tables of a generation but for users' records, piece by piece."""
        for file in self._files_of(items):
            yield from self._check(file)

    async def fetch_users(
        self, manifest: GenerationManifest, users: Ids
    ) -> Sequence[bytes | memoryview | None]:
        """Read the records of distinct users, views of the mapped file; None for unknown ones."""
        table = self._users.get(manifest.generation)
        if table is None:
            table = self._users[manifest.generation] = self._open(manifest, USERS, MappedUserTable)
        return table.records_of(users)

    async def items_of(self, manifest: GenerationManifest, items: Ids) -> ItemTable:
        """Read a few distinct items, as a table of those that are known."""
        table = self._items.get(manifest.generation)
        if table is None:
            table = self._items[manifest.generation] = self._open(manifest, ITEMS, MappedItemTable)
        rows = table.rows_of(items)
        return table_of_items(manifest, table.take(rows[rows >= 0]), table.dictionary())

    async def users(self, manifest: GenerationManifest) -> AsyncIterator[UserBlock]:
        """Read all users, some at a time."""
        table = self._open(manifest, USERS, MappedUserTable)
        try:
            for start in range(0, table.count, _USERS_AT_ONCE):
                ids, records = table.slice(start, start + _USERS_AT_ONCE)
                yield unpacked(manifest, ids, records)
        finally:
            table.close()

    async def verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        """Re-read all of a generation: counts, checksums, order; ``progress`` counts rows."""
        await asyncio.to_thread(self._verify, manifest, progress)

    async def close(self) -> None:
        """Unmap what is mapped."""
        self._let_go(set())

    def _let_go(self, needed: set[str]) -> None:
        """Unmap generations that the catalogue no longer names: their space returns only then."""
        for tables in (self._users, self._items):
            for generation in [g for g in list(tables) if g not in needed]:
                tables.pop(generation).close()

    def _prefaulted_items(self, manifest: GenerationManifest, memory_bytes: int) -> MappedItemTable:
        items = self._open(manifest, ITEMS, MappedItemTable)
        earlier = self._users.get(manifest.generation)
        self._users[manifest.generation] = self._open(manifest, USERS, MappedUserTable)
        if earlier is not None:  # it was damaged: the file may be another one by now
            earlier.close()
        if items.size_bytes <= memory_bytes:
            with as_store_errors(self.store):
                items.prefault()
        return items

    def _open(self, manifest: GenerationManifest, name: str, kind: type[_TableT]) -> _TableT:
        with self._reading(manifest.generation, name) as path:
            table = kind(path, manifest.generation)
        _require_same(manifest, name, table.header)
        assert table.file is not None
        if what := self._notes.damage_of(table.file.identity):
            raise GenerationCorruptError(manifest.generation, what)
        if not self._notes.has(table.file.identity):
            for _ in self._check(table.file):
                pass
        return table

    def _check(self, file: TableFile) -> Iterator[None]:
        identity = file.identity
        try:
            yield from file.check()
        except GenerationCorruptError as exc:
            self._notes.add_damage(identity, exc.what)
            raise
        self._notes.add(file.identity)

    def _files_of(self, items: ItemTable) -> list[TableFile]:
        tables = (items, self._users.get(items.generation))
        return [table.file for table in tables if table is not None and table.file is not None]

    def _verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        generation = manifest.generation
        if self._read_manifest(generation) != manifest:
            raise GenerationCorruptError(generation, "its manifest is another one")
        kinds: dict[str, TableKind] = {ITEMS: "items", USERS: "users"}
        for name, kind in kinds.items():
            with self._reading(generation, name) as path:
                identity = Identity.of(path.stat())
                header = verify_table(path, kind, generation, progress)
            _require_same(manifest, name, header)
            self._notes.add(identity)

    def _read_manifest(self, generation: str) -> GenerationManifest:
        with as_store_errors(self.store):
            raw = read_if_there(self._root / GENERATIONS / generation / MANIFEST)
        if raw is None:
            raise self._missing(generation, "manifest")
        return read_manifest(raw, generation)

    @contextmanager
    def _reading(self, generation: str, name: str) -> Iterator[Path]:
        with as_store_errors(self.store):
            try:
                yield self._root / GENERATIONS / generation / name
            except FileNotFoundError as exc:
                raise self._missing(generation, name) from exc

    def _missing(self, generation: str, what: str) -> StoreError:
        """Return the error for a missing file: damage while the catalogue still needs it."""
        catalogue = load_catalogue(self._root, self.store)
        return missing(generation, f"its {what} is missing", catalogue)


def _require_same(manifest: GenerationManifest, name: str, header: TableHeader) -> None:
    """Check that a table is the one that the manifest was written for."""
    if manifest.checksums.get(name) != header.crc32:
        raise GenerationCorruptError(manifest.generation, f"file {name} is not the one it was")
