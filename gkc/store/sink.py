"""Where an export writes: one generation, its rows checked and counted, onto any backend."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Final, Protocol

from msgspec import Meta
from msgspec.structs import replace

from gkc.errors import (
    GenerationCorruptError,
    GenerationImmutableError,
    LayoutError,
    RecordError,
)
from gkc.store.codec import ItemBlock, UserBlock, largest_magnitude
from gkc.store.generation import (
    GenerationManifest,
    GenerationSpec,
    Totals,
    default_totals,
    read_manifest,
)
from gkc.store.sealed import Count, Count32, Record, seal, unseal
from gkc.store.table_writer import OrderProgress, TableProgress

PROGRESS_FORMAT: Final = "gkc-progress/2"
_CHECKPOINT_BYTES: Final = 64 << 20
"""So many, once written, are made durable and noted, so that a later writer may go on there."""
_CHECKPOINT_SECONDS: Final = 5.0


class Lease(Protocol):
    """The right to write one version, held until released or until its holder dies."""

    token: str

    def check(self, generation: str) -> None:
        """Raise LeaseLostError if the lease may have passed to another writer."""
        ...

    def release(self) -> None:
        """Give the lease back; calling it again does nothing."""
        ...


class BucketProgress(Record, frozen=True, tag="buckets"):
    """How far users have come that are stored in buckets.

    Attributes
    ----------
    order : OrderProgress
    bucket : int
        The one that is being filled.
    bucket_users, bucket_checksum : int
        What is in it.
    checksum, size_bytes : int
        Of all buckets.
    """

    order: OrderProgress
    bucket: Count32 = 0
    bucket_users: Count32 = 0
    bucket_checksum: Annotated[int, Meta(ge=0)] = 0
    checksum: Annotated[int, Meta(ge=0)] = 0
    size_bytes: Count = 0


class WriterProgress(Record, frozen=True):
    """How much of an unfinished generation is stored, enough to go on writing it.

    Attributes
    ----------
    totals : Totals
    items : TableProgress
    users : TableProgress or BucketProgress
        As the backend keeps them.
    chunk_crc32s : bytes
        Of the chunks of the items table that hold something by now, uint32 each; 0 for others.
    """

    totals: Totals
    items: TableProgress
    users: TableProgress | BucketProgress
    chunk_crc32s: bytes = b""

    def to_bytes(self) -> bytes:
        """Serialise as sealed JSON."""
        return seal(self, PROGRESS_FORMAT)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a backend tells of a generation whose rows are all stored.

    Attributes
    ----------
    size_bytes : int
        What they take.
    checksums : mapping of str to int
        The manifest keeps them for the backend, which alone names and reads them.
    chunk_crc32s : bytes
        As in the manifest.
    """

    size_bytes: int
    checksums: dict[str, int] = field(default_factory=dict)
    chunk_crc32s: bytes = b""


class StagedStore(Protocol):
    """What a backend does to store one generation; `GenerationSink` decides when."""

    @property
    def written_bytes(self) -> int:
        """Bytes taken so far."""
        ...

    def errors(self) -> AbstractContextManager[None]:
        """Turn what the backend's library raises into StoreUnavailableError."""
        ...

    def read_manifest(self) -> bytes | None:
        """Read the manifest of a writer that ended, None if there is none."""
        ...

    def read_progress(self) -> bytes | None:
        """Read what an interrupted writer noted, None if it noted nothing."""
        ...

    def open(self, progress: WriterProgress | None, categories: Sequence[bytes]) -> None:
        """Begin to write, or go on where an interrupted writer was.

        Parameters
        ----------
        progress : WriterProgress or None
        categories : sequence of bytes
            All categories in ascending order of their bytes, where they are strings.

        Raises
        ------
        RecordError
            If the note is none of this generation.
        GenerationCorruptError
            If what that writer stored is not there.
        """
        ...

    def append_items(self, block: ItemBlock) -> None:
        """Take items; raises LayoutError if they are out of order or too many."""
        ...

    def append_users(self, block: UserBlock, records: Sequence[bytes]) -> None:
        """Take users and their records; raises LayoutError as `append_items`."""
        ...

    def checkpoint(self, totals: Totals) -> None:
        """Make durable what was taken, then the note that a later writer needs to go on."""
        ...

    def finish(self) -> Finished:
        """Make everything durable; raises LayoutError if fewer rows came than were promised."""
        ...

    def write_manifest(self, raw: bytes) -> None:
        """Store the manifest, durably; then nothing is left of the note of progress."""
        ...

    def close(self) -> None:
        """Let go of files and connections; what is stored stays."""
        ...


class GenerationSink:
    """Takes the rows of one staging generation, each kind in ascending `hash_ids` order, once.

    Parameters
    ----------
    staged : StagedStore
        Where they go; closed by `close`.
    generation : str
    spec : GenerationSpec
    resume : bool
        Go on with what an interrupted writer left, as far as it is known to be stored.
    categories : sequence of bytes
        All categories in ascending order of their bytes, where they are strings: what items and
        pairs hold are places in it.

    Raises
    ------
    GenerationImmutableError
        If the generation is sealed and not to be resumed.
    GenerationCorruptError
        If what the interrupted writer left is damaged.
    StoreUnavailableError
        If the store does not answer; also from every method that writes.
    """

    def __init__(
        self,
        staged: StagedStore,
        generation: str,
        spec: GenerationSpec,
        *,
        resume: bool,
        categories: Sequence[bytes] = (),
    ) -> None:
        self._staged = staged
        self._generation = generation
        self._spec = spec
        self._manifest: GenerationManifest | None = None
        self._totals = default_totals(spec)
        try:
            with staged.errors():
                self._open(categories, resume=resume)
        except BaseException:
            staged.close()
            raise
        self._stored = self._manifest.totals if self._manifest else self._totals
        self._noted_bytes = 0 if self._manifest else staged.written_bytes
        self._noted_at = time.monotonic()
        self._records = spec.records(generation)

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
        LeaseLostError
        """
        self._require_unsealed()
        spec = self._spec
        if block.k_i.shape != (len(block.ids), spec.vector_stride):
            raise LayoutError(f"items of shape {block.k_i.shape} do not fit")
        with self._staged.errors():
            self._staged.append_items(block)
        largest = largest_magnitude(block.k_i, spec.element_type)
        self._count(Totals(items=len(block.ids), largest_item=largest))

    def write_users(self, block: UserBlock) -> None:
        """Append users with their pairs.

        Raises
        ------
        LayoutError
            If they are out of order, too many, or of another width.
        GenerationImmutableError
            If the generation is sealed.
        LeaseLostError
        """
        self._require_unsealed()
        spec = self._spec
        widths = (block.k_u.shape[1], block.k_uc.shape[1])
        if widths != (spec.vector_stride, spec.category_stride):
            raise LayoutError(f"users of {widths[0]} and pairs of {widths[1]} bytes do not fit")
        if len(block.categories) and not spec.category_dim:
            raise LayoutError("pairs without elements are not stored")
        with self._staged.errors():
            self._staged.append_users(block, self._records.pack(block))
        self._count(
            Totals(
                users=len(block.ids),
                user_categories=len(block.categories),
                largest_user=largest_magnitude(block.k_u, spec.element_type),
                largest_user_category=largest_magnitude(block.k_uc, spec.element_type),
            )
        )

    def seal(self) -> GenerationManifest:
        """Make everything durable, store the manifest and return it; nothing comes afterwards.

        Raises
        ------
        LayoutError
            If other counts were written than the spec promised.
        LeaseLostError
        """
        if self._manifest is not None:
            return self._manifest
        self._require_promised()
        with self._staged.errors():
            manifest = self._manifest_of(self._staged.finish())
            self._staged.write_manifest(manifest.to_bytes())
        self._manifest, self._stored = manifest, manifest.totals
        return manifest

    def close(self) -> None:
        """Let go of files and connections, sealed or not; what is stored stays."""
        self._staged.close()

    def _open(self, categories: Sequence[bytes], *, resume: bool) -> None:
        raw = self._staged.read_manifest()
        if raw is not None:
            if not resume:
                raise GenerationImmutableError(self._generation)
            self._manifest = read_manifest(raw, self._generation)
            return
        noted = self._staged.read_progress() if resume else None
        if noted is None:
            self._staged.open(None, categories)
            return
        try:
            progress = unseal(noted, PROGRESS_FORMAT, WriterProgress)
            self._staged.open(progress, categories)
        except RecordError as exc:
            what = f"the note of its progress: {exc}"
            raise GenerationCorruptError(self._generation, what) from exc
        self._totals = progress.totals

    def _manifest_of(self, finished: Finished) -> GenerationManifest:
        return GenerationManifest(
            generation=self._generation,
            spec=self._spec,
            layout=self._spec.layout,
            totals=replace(self._totals, size_bytes=finished.size_bytes),
            checksums=finished.checksums,
            chunk_crc32s=finished.chunk_crc32s,
        )

    def _require_unsealed(self) -> None:
        if self._manifest is not None:
            raise GenerationImmutableError(self._generation)

    def _require_promised(self) -> None:
        spec, totals = self._spec, self._totals
        written = (totals.users, totals.items, totals.user_categories)
        if written != (spec.users, spec.items, spec.user_categories):
            raise LayoutError(
                f"{totals.users} users, {totals.items} items and {totals.user_categories} pairs "
                f"were written of the {spec.users}, {spec.items} and {spec.user_categories} that "
                "were promised"
            )

    def _count(self, more: Totals) -> None:
        """Count rows, and note from time to time how far we are, once that is stored."""
        self._totals = self._totals.plus(more)
        unnoted = self._staged.written_bytes - self._noted_bytes
        if unnoted < _CHECKPOINT_BYTES and (
            not unnoted or time.monotonic() - self._noted_at < _CHECKPOINT_SECONDS
        ):
            return
        with self._staged.errors():
            totals = replace(self._totals, size_bytes=self._staged.written_bytes)
            self._staged.checkpoint(totals)
        self._stored = totals
        self._noted_bytes = self._staged.written_bytes
        self._noted_at = time.monotonic()
