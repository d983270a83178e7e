"""The embedded store's writing side."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from gkc.errors import StoreUnavailableError
from gkc.store.backends.file.layout import (
    CATALOGUE,
    CATALOGUE_LOCK,
    GENERATION_FILES,
    GENERATIONS,
    LEASES,
    as_store_errors,
    read_if_there,
)
from gkc.store.backends.file.lease import FileLease
from gkc.store.backends.file.writer import FileWriter
from gkc.store.durable import (
    NO_ROOM,
    lock_file,
    make_directory,
    replace_file,
    sync_directory,
)
from gkc.store.generation import GenerationLayout, GenerationSpec
from gkc.store.sink import GenerationSink, Lease
from gkc.store.urls import require_namespace

log = structlog.get_logger(__name__)

_LOCK_TIMEOUT_SECONDS: Final = 10.0
_LOCK_PAUSE_SECONDS: Final = 0.01
_SPARE_BYTES: Final = 64 << 10
"""What is kept for the next catalogues, so that a full disk takes the news of a deletion."""


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

    def read_catalogue(self) -> bytes | None:
        """Read the bytes of whatever catalogue is there; None if there is none."""
        with as_store_errors(self.store):
            return read_if_there(self._root / CATALOGUE)

    def swap_catalogue(self, expected: bytes | None, new: bytes | None) -> bool:
        """Replace the catalogue's bytes durably if they still are ``expected``; tell whether."""
        path = self._root / CATALOGUE
        with as_store_errors(self.store):
            make_directory(self._root)
            with self._locked() as lock:
                if read_if_there(path) != expected:
                    return False
                if new is not None:
                    self._replace_catalogue(path, new, lock)
                else:
                    path.unlink(missing_ok=True)
                    sync_directory(self._root)
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
        categories: Sequence[bytes] = (),
    ) -> GenerationSink:
        """Start writing a generation, or go on with what an interrupted writer left of it."""
        lease.check(generation)
        writer = FileWriter(self._root / GENERATIONS / generation, self.store, generation, spec)
        return GenerationSink(writer, generation, spec, resume=resume, categories=categories)

    def delete(self, generation: str, layout: GenerationLayout) -> None:
        """Delete a generation's files by their known names, which are those of format 1, too."""
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

    def free(self, generation: str, layout: GenerationLayout) -> None:
        """Delete a dead writer's files at once: the kernel has told that it is dead."""
        self.delete(generation, layout)

    def wait_for_replicas(self) -> None:
        """Do nothing: there are none."""

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _replace_catalogue(self, path: Path, new: bytes, lock: int) -> None:
        """Replace the catalogue, on a full disk in the room that its lock file keeps for it."""
        try:
            replace_file(path, new)
        except OSError as exc:
            if exc.errno not in NO_ROOM:
                raise
            os.ftruncate(lock, 0)
            replace_file(path, new)
        if os.fstat(lock).st_size < _SPARE_BYTES:
            with suppress(OSError):  # no room to keep any
                os.posix_fallocate(lock, 0, _SPARE_BYTES)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the lock under which the catalogue is replaced; give its file."""
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS

        def pause() -> None:
            if time.monotonic() >= deadline:
                raise StoreUnavailableError(
                    self.store, f"another process holds {CATALOGUE_LOCK} and does not end"
                )
            time.sleep(_LOCK_PAUSE_SECONDS)

        fd = lock_file(self._root / CATALOGUE_LOCK, pause)
        assert fd is not None  # it waits
        try:
            yield fd
        finally:
            os.close(fd)
