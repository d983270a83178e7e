"""Writing a generation into files: two tables, a note of progress, and the manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from gkc.errors import RecordError
from gkc.store.backends.file.layout import (
    ITEMS,
    MANIFEST,
    PROGRESS,
    USERS,
    as_store_errors,
    read_if_there,
)
from gkc.store.codec import ItemBlock, UserBlock
from gkc.store.durable import make_directory, open_regular, replace_file
from gkc.store.generation import GenerationSpec, Totals
from gkc.store.sink import Finished, WriterProgress
from gkc.store.table_format import TableHeader
from gkc.store.table_writer import ItemTableWriter, TableProgress, UserTableWriter

_READ_ONLY: Final = 0o444
_WRITABLE: Final = 0o644


class FileTarget:
    """A table file being written (a ``TableTarget``).

    Parameters
    ----------
    path : Path
        Made anew, unless it is resumed.
    is_resumed : bool
        Whether to go on with the file that is there.

    Raises
    ------
    OSError
        If the file cannot be made; also from every method.
    """

    piece_bytes: Final = 2 << 20  # a huge page

    def __init__(self, path: Path, *, is_resumed: bool = False) -> None:
        if is_resumed:
            path.chmod(_WRITABLE)  # read-only if the writer died while sealing
        flags = os.O_WRONLY | os.O_CREAT | (0 if is_resumed else os.O_TRUNC)
        self._fd = open_regular(path, flags, _WRITABLE)

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes at a place in the file."""
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, data[written:], offset + written)

    def sync(self) -> None:
        """Make durable what was written."""
        os.fsync(self._fd)

    def finish(self, header: TableHeader) -> None:
        """Give the file its size, and make it durable and read-only."""
        os.ftruncate(self._fd, header.size_bytes)
        os.fchmod(self._fd, _READ_ONLY)
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FileWriter:
    """Writes the files of one generation (a ``StagedStore``).

    Parameters
    ----------
    directory : Path
        Of the generation; made if it is not there.
    store : str
        The store's URL, for messages.
    generation : str
    spec : GenerationSpec
    """

    def __init__(self, directory: Path, store: str, generation: str, spec: GenerationSpec) -> None:
        self._directory = directory
        self._store = store
        self._generation = generation
        self._spec = spec
        self._targets: dict[str, FileTarget] = {}

    @property
    def written_bytes(self) -> int:
        """Bytes taken so far."""
        return self._items.written_bytes + self._users.written_bytes

    def errors(self) -> AbstractContextManager[None]:
        """Turn what the file system refuses into StoreUnavailableError."""
        return as_store_errors(self._store)

    def read_manifest(self) -> bytes | None:
        """Read the manifest of a writer that ended, None if there is none."""
        return read_if_there(self._directory / MANIFEST)

    def read_progress(self) -> bytes | None:
        """Read what an interrupted writer noted, None if it noted nothing."""
        return read_if_there(self._directory / PROGRESS)

    def open(self, progress: WriterProgress | None, categories: Sequence[bytes]) -> None:
        """Begin to write, or go on where an interrupted writer was."""
        make_directory(self._directory)
        users = progress.users if progress else None
        if users is not None and not isinstance(users, TableProgress):
            raise RecordError("$.users: is not that of a table")
        for name in (ITEMS, USERS):
            self._targets[name] = FileTarget(
                self._directory / name, is_resumed=progress is not None
            )
        items = progress.items if progress else None
        spec, generation = self._spec, self._generation
        self._items = ItemTableWriter(
            self._targets[ITEMS], generation, spec.item_shape, items, categories
        )
        self._users = UserTableWriter(self._targets[USERS], generation, spec.user_shape, users)

    def append_items(self, block: ItemBlock) -> None:
        """Take items."""
        self._items.append(block)

    def append_users(self, block: UserBlock, records: Sequence[bytes]) -> None:
        """Take users and their records."""
        self._users.append(block.ids, records, block.names)

    def checkpoint(self, totals: Totals) -> None:
        """Make durable what was taken, then note what a later writer needs to go on."""
        progress = WriterProgress(totals, self._items.sync(), self._users.sync())
        replace_file(self._directory / PROGRESS, progress.to_bytes())

    def finish(self) -> Finished:
        """Make everything durable and read-only."""
        headers = {ITEMS: self._items.finish(), USERS: self._users.finish()}
        for name, header in headers.items():
            self._targets[name].finish(header)
        return Finished(
            size_bytes=sum(header.size_bytes for header in headers.values()),
            checksums={name: header.crc32 for name, header in headers.items()},
        )

    def write_manifest(self, raw: bytes) -> None:
        """Store the manifest; then nothing is left of the note of progress."""
        replace_file(self._directory / MANIFEST, raw)
        (self._directory / PROGRESS).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files; what is stored stays."""
        for target in self._targets.values():
            target.close()
