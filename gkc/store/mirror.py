"""Copies on this host of item tables, for a store that keeps items elsewhere.

::

    MIRROR_DIR/<digest of store and namespace>/
        GENERATION.gkt    a table file, see `gkc.store.table`; renamed into place when complete
        GENERATION.tmp    one that is being built
        GENERATION.lock   locked by the one process of this host that builds it

All processes of a host map one file. It is only a cache: whatever is lost or damaged is built anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Final

import structlog

from gkc.errors import (
    GenerationCorruptError,
    LayoutError,
    StoreUnavailableError,
)
from gkc.store.catalogue import Catalogue
from gkc.store.durable import sync_directory
from gkc.store.generation import GenerationManifest
from gkc.store.protocol import ItemBlock
from gkc.store.table import MappedItemTable
from gkc.store.table_check import verify_table
from gkc.store.table_writer import ItemTableWriter

log = structlog.get_logger(__name__)

_TABLE: Final = ".gkt"
_TEMPORARY: Final = ".tmp"
_LOCK: Final = ".lock"
_LOCK_PAUSE_SECONDS: Final = 0.02
_PRIVATE: Final = 0o700

Blocks = Callable[[], Iterator[ItemBlock]]


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
        self._opened_at = time.time()
        self._stopping = threading.Event()
        self._tidying = threading.Lock()
        self._tidied: frozenset[str] | None = None

    def open(
        self, manifest: GenerationManifest, blocks: Blocks, memory_bytes: int
    ) -> MappedItemTable:
        """Map a generation's items, copying them first if this host has no intact mirror of them.

        Blocks while it copies, or while another process does.

        Parameters
        ----------
        manifest : GenerationManifest
        blocks : callable
            Begins to read all items from the store, in ascending order of their hashes.
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
            table = self._open_intact(manifest)
            if table is None:
                table = self._build(manifest, blocks)
            if table.size_bytes <= memory_bytes:
                table.prefault()
        if self._tidied is None:
            self._tidied = frozenset()  # from now on, `tidy` has something to do
        return table

    def tidy(self, catalogue: Catalogue) -> None:
        """Remove in the background what is of no use to the readers of ``catalogue``.

        Does nothing until a mirror has been opened, and if nothing has changed since it last ran.
        """
        wanted = frozenset(catalogue.in_state("staging", "published"))
        if self._tidied is None or wanted == self._tidied or self._stopping.is_set():
            return
        self._tidied = wanted
        newest = catalogue.counter
        threading.Thread(target=self._tidy, args=(wanted, newest), daemon=True).start()

    def remove_orphans(self, wanted: Collection[str], newest: int) -> list[str]:
        """Remove the mirrors of other generations, and what dead builders left.

        Whoever has one of them mapped may go on reading it.

        Parameters
        ----------
        wanted : collection of str
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
            if path.suffix == _TABLE and (path.stem in wanted or _counter(path.stem) > newest):
                continue
            with self._locked(path.stem, wait=False) as is_ours:
                if is_ours and path.suffix in (_TABLE, _TEMPORARY):
                    path.unlink(missing_ok=True)
                    removed.append(path.name)
        return removed

    def stop(self) -> None:
        """Make builders in this process give up, for it wants to end."""
        self._stopping.set()

    def _tidy(self, wanted: frozenset[str], newest: int) -> None:
        with self._tidying:
            try:
                removed = self.remove_orphans(wanted, newest)
            except OSError as exc:
                log.warning("mirrors_not_tidied", directory=str(self.directory), reason=str(exc))
                return
        if removed:
            log.info("mirrors_removed", files=removed)

    def _open_intact(self, manifest: GenerationManifest) -> MappedItemTable | None:
        """Map the mirror that is there, None if there is none or it is damaged."""
        path, generation = self._path(manifest.generation, _TABLE), manifest.generation
        try:
            if path.stat().st_mtime < self._opened_at:  # not built just now: nobody knows it
                verify_table(path, "items", generation, self._check_stop)
            table = MappedItemTable(path, generation)
        except FileNotFoundError:
            return None
        except GenerationCorruptError as exc:
            log.warning("mirror_damaged", generation=generation, reason=exc.what)
            return None
        spec = manifest.spec
        if (table.count, table.header.stride) != (spec.items, spec.vector_stride):
            table.close()
            log.warning("mirror_damaged", generation=generation, reason="it has another size")
            return None
        return table

    def _build(self, manifest: GenerationManifest, blocks: Blocks) -> MappedItemTable:
        self._make_directory()
        with self._locked(manifest.generation, wait=True):
            table = self._open_intact(manifest)  # another process may have built it meanwhile
            if table is not None:
                return table
            started = time.monotonic()
            self._copy(manifest, blocks)
            seconds = round(time.monotonic() - started, 3)
            log.info("mirror_built", generation=manifest.generation, seconds=seconds)
            return MappedItemTable(self._path(manifest.generation, _TABLE), manifest.generation)

    def _copy(self, manifest: GenerationManifest, blocks: Blocks) -> None:
        """Copy all items into a file beside the mirror, then put it in its place."""
        generation, spec = manifest.generation, manifest.spec
        temporary = self._path(generation, _TEMPORARY)
        try:
            with ItemTableWriter(temporary, generation, spec.items, spec.vector_stride) as writer:
                for block in blocks():
                    self._check_stop(len(block.ids))
                    writer.append(block)
                writer.finish()
            temporary.replace(self._path(generation, _TABLE))
        except LayoutError as exc:
            raise GenerationCorruptError(generation, f"its items: {exc}") from exc
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(self.directory)

    def _check_stop(self, _: int) -> None:
        if self._stopping.is_set():
            raise StoreUnavailableError(self._store, "this process ends while it copies items")

    def _path(self, generation: str, suffix: str) -> Path:
        return self.directory / (generation + suffix)

    def _make_directory(self) -> None:
        root = self.directory.parent
        root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        if root.stat().st_uid != os.geteuid():
            # Others could put files there that we would serve.
            raise PermissionError(0, "it belongs to another user; set GKC_MIRROR_DIR", str(root))
        self.directory.mkdir(mode=_PRIVATE, exist_ok=True)

    @contextmanager
    def _locked(self, generation: str, *, wait: bool) -> Iterator[bool]:
        """Hold the lock of one generation's mirror; tell whether it was to be had."""
        path = self._path(generation, _LOCK)
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its holder removed the file between our open and our lock: then try anew.
                is_ours = _is_at(fd, path)
            except BlockingIOError:
                is_ours = False
            if is_ours or not wait:
                break
            os.close(fd)
            self._check_stop(0)
            time.sleep(_LOCK_PAUSE_SECONDS)
        try:
            yield is_ours
        finally:
            if is_ours:
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


def _is_at(fd: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False


def _counter(generation: str) -> int:
    """Return a generation's counter, -1 if the name is not one of a generation."""
    counter = generation.partition("-")[0]
    return int(counter) if counter.isdecimal() else -1
