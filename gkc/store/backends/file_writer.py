"""What a file store writes: the names of its files, and the sink that fills a generation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from gkc.errors import (
    GenerationCorruptError,
    GenerationImmutableError,
    LayoutError,
    StoreUnavailableError,
)
from gkc.store.codec import UserBlock, largest_magnitude, pack_records
from gkc.store.durable import TEMPORARY, make_directory, replace_file
from gkc.store.generation import GenerationManifest, GenerationSpec, Totals, default_totals
from gkc.store.protocol import ItemBlock
from gkc.store.sealed import sealed_json, unsealed_json
from gkc.store.table_writer import ItemTableWriter, TableProgress, UserTableWriter

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

CHECKPOINT_BYTES: Final = 64 << 20
_CHECKPOINT_SECONDS: Final = 5.0


@contextmanager
def as_store_errors(store: str) -> Iterator[None]:
    """Turn what the file system refuses into StoreUnavailableError."""
    try:
        yield
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        raise StoreUnavailableError(store, f"{where}{exc.strerror or exc}") from exc


class FileSink:
    """Writes the two table files of one staging generation.

    Parameters
    ----------
    directory : Path
        Of the generation; made if it is not there.
    store : str
        The store's URL, for messages.
    generation : str
    spec : GenerationSpec
    resume : bool
        Go on with what an interrupted writer left, as far as it is known to be on disk.
    checkpoint_bytes : int
        After how many written bytes they are made durable, so that a later writer may go on there.

    Raises
    ------
    StoreUnavailableError
        If the files cannot be made; also from every method that writes.
    """

    def __init__(
        self,
        directory: Path,
        store: str,
        generation: str,
        spec: GenerationSpec,
        *,
        resume: bool,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self._directory = directory
        self._store = store
        self._generation = generation
        self._spec = spec
        self._checkpoint_bytes = checkpoint_bytes
        with as_store_errors(store):
            make_directory(directory)
            self._manifest = read_manifest(directory, generation) if resume else None
            self._totals = default_totals(spec)
            self._tables = None if self._manifest else self._open_tables(resume=resume)
        self._stored = self._manifest.totals if self._manifest else self._totals
        self._checkpoint_due = self._written_bytes() + checkpoint_bytes
        self._checkpoint_time = time.monotonic() + _CHECKPOINT_SECONDS

    def written(self) -> Totals:
        """Return what is stored durably: a resuming writer skips that many leading rows a kind."""
        return self._stored

    def write_items(self, block: ItemBlock) -> None:
        """Append items.

        Raises
        ------
        LayoutError
            If they are out of order, too many, or of another width.
        GenerationImmutableError
            If the generation is sealed.
        """
        items, _ = self._require_tables()
        with as_store_errors(self._store):
            items.append(block)
        largest = largest_magnitude(block.k_i, self._spec.element_type)
        self._count(Totals(items=len(block.ids), largest_item=largest))

    def write_users(self, block: UserBlock) -> None:
        """Append users with their pairs.

        Raises
        ------
        LayoutError
            If they are out of order, too many, or of another width.
        GenerationImmutableError
            If the generation is sealed.
        """
        _, users = self._require_tables()
        spec = self._spec
        widths = (block.k_u.shape[1], block.k_uc.shape[1])
        if widths != (spec.vector_stride, spec.category_stride):
            raise LayoutError(f"users of {widths[0]} and pairs of {widths[1]} bytes do not fit")
        with as_store_errors(self._store):
            users.append(block.ids, pack_records(block))
        self._count(
            Totals(
                users=len(block.ids),
                user_categories=len(block.categories),
                largest_user=largest_magnitude(block.k_u, spec.element_type),
                largest_user_category=largest_magnitude(block.k_uc, spec.element_type),
            )
        )

    def seal(self) -> GenerationManifest:
        """Make everything durable and read-only, and store and return the manifest.

        Raises
        ------
        LayoutError
            If other counts were written than the spec promised.
        """
        if self._manifest is not None:
            return self._manifest
        items, users = self._require_tables()
        if self._totals.user_categories != self._spec.user_categories:
            raise LayoutError(
                f"{self._totals.user_categories} pairs were written of the "
                f"{self._spec.user_categories} that were promised"
            )
        with as_store_errors(self._store):
            headers = {ITEMS: items.finish(), USERS: users.finish()}
            size_bytes = sum(header.size_bytes for header in headers.values())
            manifest = GenerationManifest(
                generation=self._generation,
                spec=self._spec,
                totals=replace(self._totals, size_bytes=size_bytes),
                checksums={name: header.crc32 for name, header in headers.items()},
            )
            replace_file(self._directory / MANIFEST, sealed_json(manifest.to_json()))
            (self._directory / PROGRESS).unlink(missing_ok=True)
        self._tables = None
        self._manifest = manifest
        self._stored = manifest.totals
        return manifest

    def close(self) -> None:
        """Close the files, sealed or not; what is stored stays."""
        for table in self._tables or ():
            table.close()

    def _open_tables(self, *, resume: bool) -> tuple[ItemTableWriter, UserTableWriter]:
        spec, progress = self._spec, self._read_progress() if resume else {}
        if progress:
            self._totals = Totals(**progress["totals"])
            for name in (ITEMS, USERS):  # read-only if the writer died while sealing
                (self._directory / name).chmod(0o644)
        resumed = {
            name: TableProgress.from_json(progress[name]) for name in (ITEMS, USERS) if progress
        }
        items = ItemTableWriter(
            self._directory / ITEMS,
            self._generation,
            spec.items,
            spec.vector_stride,
            resumed.get(ITEMS),
        )
        users = UserTableWriter(
            self._directory / USERS, self._generation, spec.users, resumed.get(USERS)
        )
        return items, users

    def _require_tables(self) -> tuple[ItemTableWriter, UserTableWriter]:
        if self._tables is None:
            raise GenerationImmutableError(self._generation)
        return self._tables

    def _written_bytes(self) -> int:
        return sum(table.written_bytes for table in self._tables or ())

    def _count(self, more: Totals) -> None:
        self._totals = self._totals.plus(more)
        written, now = self._written_bytes(), time.monotonic()
        if written >= self._checkpoint_due or now >= self._checkpoint_time:
            self._checkpoint(written)
            self._checkpoint_due = written + self._checkpoint_bytes
            self._checkpoint_time = time.monotonic() + _CHECKPOINT_SECONDS

    def _checkpoint(self, written_bytes: int) -> None:
        """Make what was written durable, then the record that says so."""
        items, users = self._require_tables()
        totals = replace(self._totals, size_bytes=written_bytes)
        with as_store_errors(self._store):
            progress = {ITEMS: asdict(items.sync()), USERS: asdict(users.sync())}
            record = {"totals": asdict(totals), **progress}
            replace_file(self._directory / PROGRESS, sealed_json(record))
        self._stored = totals

    def _read_progress(self) -> dict[str, Any]:
        try:
            raw = (self._directory / PROGRESS).read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return unsealed_json(raw)
        except ValueError as exc:
            raise GenerationCorruptError(self._generation, f"file {PROGRESS}: {exc}") from exc


def read_manifest(directory: Path, generation: str) -> GenerationManifest | None:
    """Read the manifest in a generation's directory, None if there is none.

    Raises
    ------
    GenerationCorruptError
        If it is damaged, or another generation's.
    OSError
        If it cannot be read.
    """
    path = directory / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        manifest = GenerationManifest.from_json(unsealed_json(raw))
    except (ValueError, LayoutError) as exc:
        raise GenerationCorruptError(generation, f"file {path}: {exc}") from exc
    if manifest.generation != generation:
        raise GenerationCorruptError(generation, f"file {path} belongs to {manifest.generation}")
    return manifest
