"""Copies on this host of item tables, for a store that keeps items elsewhere.

::

    MIRROR_DIR/<digest of store and namespace>/
        GENERATION.gkt    the table file, see `gkc.store.table_format`; renamed when complete
        GENERATION.tmp    one that is being copied, chunk by chunk from its beginning
        GENERATION.lock   locked by the one process of this host that copies it

All processes of a host map one file. It is only a cache: whatever is lost or damaged is copied
anew, and a copy that was interrupted goes on where it was.

All hosts learn of a generation within the same fraction of a second, and a store gives what it can:
a hundred that copy a large table together take its whole network for long. Nobody tells them how
many they are, and they may only read. So a host that has another generation's mirror, from which it
answers meanwhile, first waits for a random time, in proportion to the table's size.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from random import uniform
from tempfile import gettempdir
from typing import Final

import structlog

from gkc.errors import GenerationCorruptError, StoreUnavailableError
from gkc.store.catalogue import Catalogue
from gkc.store.chunks import Chunks
from gkc.store.durable import lock_file, open_regular, private_directory, sync_directory
from gkc.store.generation import GenerationManifest
from gkc.store.table import ItemTable, MappedItemTable
from gkc.store.table_notes import Identity

log = structlog.get_logger(__name__)

_TABLE: Final = ".gkt"
_TEMPORARY: Final = ".tmp"
_LOCK: Final = ".lock"
_LOCK_PAUSE_SECONDS: Final = 0.02
_AT_ONCE_BYTES: Final = 64 << 20
"""Such a table is copied at once: it has to be served within a second of its publication."""
_SPREAD_BYTES_A_SECOND: Final = 20_000_000
"""Of a larger table, what is beyond: fifty hosts that copy one are about a gigabyte a second."""

ReadChunks = Callable[[Sequence[int]], Iterator[bytes]]
"""Reads chunks of a generation's items table from the store, those of some numbers in turn."""


def default_mirror_dir() -> Path:
    """Return where mirrors are kept unless something else is asked for.

    In the system's directory for temporary files, one per user: a service needs no home for it, and
    whoever tidies that directory up costs it no more than building a mirror anew.
    """
    return Path(gettempdir()) / f"gkc-mirror-{os.getuid()}"


class MirrorDirectory:
    """The mirrors of one store and namespace on this host; safe to use from several threads.

    Parameters
    ----------
    root : Path
        Directory of all mirrors of this host; made with its parents if it is not there.
    store : str
        The store's URL without secrets.
    namespace : str
    """

    def __init__(self, root: Path, store: str, namespace: str) -> None:
        digest = hashlib.sha256(f"{store}\n{namespace}".encode()).hexdigest()[:16]
        self.directory = root.expanduser().absolute() / digest
        self._store = store
        self._stopping = threading.Event()
        self._tidying = threading.Lock()
        self._tidied: frozenset[str] | None = None
        self._mapped: set[str] = set()

    def open(
        self, manifest: GenerationManifest, read_chunks: ReadChunks, memory_bytes: int
    ) -> MappedItemTable:
        """Map a generation's items, copying them first if this host has no intact mirror of them.

        Blocks while it copies, or while another process does.

        Parameters
        ----------
        manifest : GenerationManifest
        read_chunks : callable
            Reads chunks from the store.
        memory_bytes : int
            Up to which size a table is brought into memory at once.

        Raises
        ------
        StoreUnavailableError
            If the store does not answer, the mirror cannot be written, or `stop` was called.
        GenerationNotFoundError
            If the generation was deleted meanwhile.
        GenerationCorruptError
            If what the store holds is damaged.
        """
        with self._as_store_errors():
            seen = self._identity(manifest.generation)
            table = self._open_intact(manifest)
            if table is None:
                table = self._build(manifest, read_chunks, seen)
            self._mapped.add(manifest.generation)
            if table.size_bytes <= memory_bytes:
                table.prefault()
        if self._tidied is None:
            self._tidied = frozenset()  # from now on, `tidy` has something to do
        return table

    def scrub(self, items: ItemTable) -> Iterator[None]:
        """Re-read a mirror piece by piece; one that is damaged is removed, to be copied anew.

        Raises
        ------
        GenerationCorruptError
            If it is damaged.
        """
        assert items.file is not None
        try:
            yield from items.file.check()
        except GenerationCorruptError:
            with self._as_store_errors():
                self._path(items.generation, _TABLE).unlink(missing_ok=True)
            raise

    def tidy(self, catalogue: Catalogue) -> None:
        """Remove in the background what is of no use to the readers of ``catalogue``.

        Does nothing until a mirror has been opened, and if nothing has changed since it last ran.
        """
        needed = frozenset(catalogue.in_state("staging", "published"))
        if self._tidied is None or needed == self._tidied or self._stopping.is_set():
            return
        self._tidied = needed
        newest = catalogue.counter
        threading.Thread(target=self._tidy, args=(needed, newest), daemon=True).start()

    def remove_orphans(self, needed: Collection[str], newest: int) -> list[str]:
        """Remove the mirrors of other generations, and copies of them that were interrupted.

        Whoever has one of them mapped may go on reading it.

        Parameters
        ----------
        needed : collection of str
            Generations to keep.
        newest : int
            Highest counter of a generation that the caller knows of; later ones are kept.

        Returns
        -------
        list of str
            The names of the files removed.
        """
        removed = []
        for path in sorted(self.directory.glob("*")):
            is_needed = path.stem in needed or _counter(path.stem) > newest
            if path.suffix != _LOCK and is_needed:
                continue
            with self._locked(path.stem, wait=False) as is_ours:
                if is_ours and path.suffix in (_TABLE, _TEMPORARY):
                    path.unlink(missing_ok=True)
                    removed.append(path.name)
        return removed

    def stop(self) -> None:
        """Make builders in this process give up, for it wants to end."""
        self._stopping.set()

    def _tidy(self, needed: frozenset[str], newest: int) -> None:
        with self._tidying:
            try:
                removed = self.remove_orphans(needed, newest)
            except OSError as exc:
                log.warning("mirrors_not_tidied", directory=str(self.directory), reason=str(exc))
                return
        if removed:
            log.info("mirrors_removed", files=removed)

    def _open_intact(
        self, manifest: GenerationManifest, *, is_new: bool = False
    ) -> MappedItemTable | None:
        """Map the mirror that is there, None if there is none or it is damaged.

        One that is new was checked as it was copied; nobody knows what became of others.
        """
        path, generation = self._path(manifest.generation, _TABLE), manifest.generation
        try:
            if not is_new:
                self._check_chunks(path, manifest)
            table = MappedItemTable(path, generation)
        except FileNotFoundError:
            return None
        except GenerationCorruptError as exc:
            log.warning("mirror_damaged", generation=generation, reason=exc.what)
            return None
        if table.header.shape != manifest.spec.item_shape:
            table.close()
            log.warning("mirror_damaged", generation=generation, reason="it has another size")
            return None
        return table

    def _build(
        self, manifest: GenerationManifest, read_chunks: ReadChunks, seen: Identity | None
    ) -> MappedItemTable:
        """Copy a mirror in place of what was seen, unless another process does so meanwhile."""
        private_directory(self.directory.parent, self.directory.name)
        with self._locked(manifest.generation, wait=True):
            if self._identity(manifest.generation) != seen:
                table = self._open_intact(manifest, is_new=True)
                if table is not None:
                    return table
            self._wait_at_random(manifest)
            started = time.monotonic()
            self._copy(manifest, read_chunks)
            seconds = round(time.monotonic() - started, 3)
            path = str(self._path(manifest.generation, _TABLE))
            log.info("mirror_built", generation=manifest.generation, path=path, seconds=seconds)
            return self._open_copied(manifest)

    def _wait_at_random(self, manifest: GenerationManifest) -> None:
        """Let other hosts copy a large table first, or after us; not one that is to be mended."""
        beyond = manifest.spec.item_shape.size_bytes() - _AT_ONCE_BYTES
        others = {path.stem for path in self.directory.glob(f"*{_TABLE}")}
        if beyond <= 0 or not others or manifest.generation in others | self._mapped:
            return
        seconds = uniform(0, beyond / _SPREAD_BYTES_A_SECOND)
        log.info("mirror_waits", generation=manifest.generation, seconds=round(seconds, 1))
        self._stopping.wait(seconds)
        self._check_stop()

    def _copy(self, manifest: GenerationManifest, read_chunks: ReadChunks) -> None:
        """Copy the table into a file beside the mirror, then put it in its place."""
        chunks = Chunks(manifest)
        temporary = self._path(manifest.generation, _TEMPORARY)
        fd = open_regular(temporary, os.O_RDWR | os.O_CREAT, 0o600)
        with FileIO(fd, "r+") as file:
            done = self._chunks_in(file, chunks)
            file.truncate(min(done * chunks.chunk_bytes, chunks.size_bytes))
            file.seek(0, os.SEEK_END)
            for number, raw in enumerate(read_chunks(range(done, chunks.count)), done):
                self._check_stop()
                chunks.check(number, raw)
                _write_all(file, raw)
            os.fsync(fd)
        temporary.replace(self._path(manifest.generation, _TABLE))
        sync_directory(self.directory)

    def _chunks_in(self, file: FileIO, chunks: Chunks) -> int:
        """Return how many chunks a copy that was interrupted has, from its beginning on."""
        for number in range(chunks.count):
            self._check_stop()
            if not chunks.is_whole(number, file.read(chunks.size(number)) or b""):
                return number
        return chunks.count

    def _check_chunks(self, path: Path, manifest: GenerationManifest) -> None:
        """Raise GenerationCorruptError if a mirror is not the table that was stored."""
        chunks = Chunks(manifest)
        with FileIO(open_regular(path, os.O_RDONLY)) as file:
            if self._chunks_in(file, chunks) < chunks.count or file.read(1):
                raise GenerationCorruptError(manifest.generation, "its checksums differ")

    def _open_copied(self, manifest: GenerationManifest) -> MappedItemTable:
        table = self._open_intact(manifest, is_new=True)
        if table is None:
            what = "the table of its items is not what its manifest says"
            raise GenerationCorruptError(manifest.generation, what)
        return table

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise StoreUnavailableError(self._store, "this process ends while it copies items")

    def _identity(self, generation: str) -> Identity | None:
        with suppress(FileNotFoundError):
            return Identity.of(self._path(generation, _TABLE).stat())
        return None

    def _path(self, generation: str, suffix: str) -> Path:
        return self.directory / (generation + suffix)

    @contextmanager
    def _locked(self, generation: str, *, wait: bool) -> Iterator[bool]:
        """Hold the lock of one generation's mirror; tell whether it was to be had."""
        path = self._path(generation, _LOCK)

        def pause() -> None:
            self._check_stop()
            time.sleep(_LOCK_PAUSE_SECONDS)

        fd = lock_file(path, pause if wait else None)
        try:
            yield fd is not None
        finally:
            if fd is not None:
                path.unlink(missing_ok=True)
                os.close(fd)

    @contextmanager
    def _as_store_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            where = exc.filename or self.directory
            cause = f"its items cannot be copied to {where}: {exc.strerror or exc}"
            raise StoreUnavailableError(self._store, cause) from exc


def _write_all(file: FileIO, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += file.write(memoryview(data)[written:])


def _counter(generation: str) -> int:
    """Return a generation's counter, -1 if the name is not one of a generation."""
    counter = generation.partition("-")[0]
    return int(counter) if counter.isdecimal() else -1
