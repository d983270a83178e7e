"""A finished table file, open for as long as it is mapped: its header, and its content re-read."""

from __future__ import annotations

import mmap
import os
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gkc.errors import GenerationCorruptError, GenerationNotFoundError, RecordError, StoreError
from gkc.store.durable import open_regular
from gkc.store.table_format import PAGE_BYTES, TableHeader, TableKind
from gkc.store.table_notes import Identity

_PIECE_BYTES: Final = 1 << 20


def open_table(path: Path, kind: TableKind, generation: str) -> tuple[int, TableHeader]:
    """Open a finished table file and check its header and its size.

    Returns
    -------
    int
        A file descriptor, the caller's to close.
    TableHeader

    Raises
    ------
    GenerationCorruptError
        If the file is short, unfinished, damaged in its header, or another one.
    OSError
        If it cannot be opened.
    """
    fd = open_regular(path, os.O_RDONLY)
    try:
        header = read_header(os.pread(fd, PAGE_BYTES, 0), kind, generation)
        size = os.fstat(fd).st_size
        # A page beyond the end of a mapped file kills the process that touches it, so look first.
        if size != header.size_bytes:
            raise RecordError(f"has {size} bytes instead of {header.size_bytes}")
    except RecordError as exc:
        os.close(fd)
        raise GenerationCorruptError(generation, f"file {path} {exc}") from exc
    except OSError:
        os.close(fd)
        raise
    return fd, header


def read_header(page: bytes, kind: TableKind, generation: str) -> TableHeader:
    """Read a table's first page, and check whose table it is.

    Raises
    ------
    RecordError
        If it is damaged, or another table's.
    """
    header = TableHeader.from_page(page)
    if (header.kind, header.generation) != (kind, generation):
        raise RecordError(f"holds {header.kind} of generation {header.generation}")
    return header


class TableFile:
    """A table file that can be mapped and checked.

    Parameters
    ----------
    path : Path
    kind : {"items", "users"}
    generation : str
        Whose table it must be.

    Raises
    ------
    GenerationCorruptError
        If the file is short, unfinished, damaged in its header, or another one.
    OSError
        If it cannot be opened.

    Attributes
    ----------
    header : TableHeader
    where : str
        What it is, for messages.
    identity : Identity
        When it was opened, or was found whole last.
    close : callable
        Closes it; calling it again does nothing.
    """

    def __init__(self, path: Path, kind: TableKind, generation: str) -> None:
        self._fd, self.header = open_table(path, kind, generation)
        self.close = weakref.finalize(self, os.close, self._fd)
        self.where = f"file {path}"
        self.identity = self._identity()

    def mapped(self) -> mmap.mmap:
        """Return the file as memory, which stays when it is closed."""
        return mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)

    def has_changed(self) -> bool:
        """Tell whether somebody wrote to it since."""
        return self.close.alive and self._identity() != self.identity

    def check(self) -> Iterator[None]:
        """Re-read what look-ups rely on; has an element for each megabyte.

        That is all but users' records, each of which is checked when it is read. What is mapped is
        not looked at: a page that the disk does not give back would end the process.

        Raises
        ------
        GenerationCorruptError
            At the first section that differs or cannot be read.
        GenerationNotFoundError
            If the file was closed.
        """
        if not self.close.alive:
            raise GenerationNotFoundError(self.header.generation)
        identity, left = self._identity(), _PIECE_BYTES
        for name, section in self.header.sections.items():
            if name == "records":
                continue
            crc32 = 0
            for start in range(0, section.length, _PIECE_BYTES):
                size = min(_PIECE_BYTES, section.length - start)
                crc32 = zlib.crc32(self._read(section.offset + start, size), crc32)
                left -= size
                if left <= 0:
                    left = _PIECE_BYTES
                    yield
            if crc32 != section.crc32:
                raise self._damaged(f"the checksum of section {name} differs")
        self.identity = identity

    def _identity(self) -> Identity:
        return Identity.of(os.fstat(self._fd))

    def _read(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._fd, size, offset)
        except OSError as exc:
            raise self._damaged(f"it cannot be read ({exc.strerror})") from exc

    def _damaged(self, what: str) -> StoreError:
        if not self.close.alive:  # by another thread: another file may have its number by now
            return GenerationNotFoundError(self.header.generation)
        return GenerationCorruptError(self.header.generation, f"{self.where}: {what}")
