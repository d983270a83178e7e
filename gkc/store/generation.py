"""What a generation is made of: what a writer starts with, the manifest it ends with. No I/O."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

import numpy as np
from msgspec import Meta, field

from gkc.errors import GenerationCorruptError, LayoutError, RecordError
from gkc.knowledge import NAME_PATTERN
from gkc.knowledge import is_version_name as is_version_name
from gkc.rows_library import stride
from gkc.store.codec import (
    ID_BYTES,
    ElementType,
    RecordCodec,
    UserBlock,
    largest_magnitude,
    record_bytes,
)
from gkc.store.sealed import Count, Count32, Int64, Magnitude, Record, Width, seal, unseal
from gkc.store.table_format import TableShape
from gkc.strings import Ids, IdType

MANIFEST_FORMAT: Final = "gkc-generation/2"
CHUNK_BYTES: Final = (256 << 10) - 64
"""Of the items table, in a store of keys: with the server's own header it stays within one of the
sizes that the server's memory comes in. A multiple of 8, so that no number lies in two chunks."""

_BUCKET_BYTES: Final = 4_000_000
_BUCKET_USERS: Final = 512
_CRC_BYTES: Final = 4

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
"""Of a version or a generation."""


class Defaults(Record, frozen=True):
    """What answers for ids that were not exported: one stored vector a part, None for zeros.

    ``item_category`` is the category that an unknown item has, None for none.
    """

    user: bytes | None = None
    item: bytes | None = None
    user_category: bytes | None = None
    item_category: Int64 | None = None


class Origin(Record, frozen=True):
    """Where a generation's vectors come from, as its bundle tells; kept, shown, and never used.

    Attributes
    ----------
    compatible_with : list of object
        Older versions in whose axes the vectors lie.
    tasks : list of object
        The tasks that the vectors of each part are laid side by side of: name and width.
    task_weights : list or object
        Where one tower serves all tasks, what makes each task's score of the product.
    vector_space : str or None
        Equal ones have axes that mean the same: as the bundle names it, else its models' digest.
    data_until : str or None
        RFC 3339.
    run : object
        Of the training: id, commit, log_sha256.
    """

    compatible_with: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    task_weights: list[Any] | dict[str, Any] = field(default_factory=list)
    vector_space: str | None = None
    data_until: str | None = None
    run: dict[str, str] = field(default_factory=dict)


class IdTypes(Record, frozen=True):
    """What a generation's ids are, kind by kind."""

    user: IdType = "int64"
    item: IdType = "int64"
    category: IdType = "int64"


class GenerationSpec(Record, frozen=True):
    """All that is known of a generation before its first vector is written.

    Attributes
    ----------
    version : str
    element_type : {"f16", "f32", "int8"}
    dim, category_dim : int
        Width of K_u and K_i, and of K_uc; without elements there are no pairs.
    users, items, user_categories : int
        How many of each will be written.
    bundle : str
        Name of the bundle in its manifest.
    fingerprint : str
        Digest of the bundle and of what decides the stored bytes; only an equal one may be resumed.
    defaults : Defaults
    origin : Origin
    user_id_type, item_id_type, category_id_type : {"int64", "string"}
    user_id_bytes, item_id_bytes : int
        Of all ids together, where they are strings.
    categories, category_bytes : int
        Distinct categories, and their bytes together, where they are strings.
    """

    version: Name
    element_type: ElementType
    dim: Width
    category_dim: Width
    users: Count32
    items: Count32
    user_categories: Count
    bundle: str
    fingerprint: str
    defaults: Defaults = Defaults()
    origin: Origin = Origin()
    user_id_type: IdType = "int64"
    item_id_type: IdType = "int64"
    category_id_type: IdType = "int64"
    user_id_bytes: Count = 0
    item_id_bytes: Count = 0
    categories: Count32 = 0
    category_bytes: Count = 0

    @property
    def id_types(self) -> IdTypes:
        """What the ids of users, items and categories are."""
        return IdTypes(self.user_id_type, self.item_id_type, self.category_id_type)

    @property
    def vector_stride(self) -> int:
        """Bytes of one stored K_u or K_i."""
        return stride(self.element_type, self.dim)

    @property
    def category_stride(self) -> int:
        """Bytes of one stored K_uc."""
        return stride(self.element_type, self.category_dim)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all vectors, and of the categories of pairs: what a store cannot do without."""
        vectors = (self.users + self.items) * self.vector_stride
        return vectors + self.user_categories * (ID_BYTES + self.category_stride)

    @property
    def mean_record_bytes(self) -> int:
        """Bytes of the record of a user with as many pairs as users have on average."""
        pairs = math.ceil(self.user_categories / self.users) if self.users else 0
        return record_bytes(self.vector_stride, self.category_stride, pairs)

    def records(self, generation: str) -> RecordCodec:
        """Return what packs and unpacks the records of a generation's users."""
        return RecordCodec(generation, self.element_type, self.dim, self.category_dim)

    @property
    def item_shape(self) -> TableShape:
        """What the table of items is made of."""
        return TableShape(
            "items",
            self.items,
            self.vector_stride,
            id_type=self.item_id_type,
            id_bytes=self.item_id_bytes,
            category_type=self.category_id_type,
            categories=self.categories,
            category_bytes=self.category_bytes,
        )

    @property
    def user_shape(self) -> TableShape:
        """What a table of users is made of."""
        return TableShape(
            "users", self.users, id_type=self.user_id_type, id_bytes=self.user_id_bytes
        )

    @property
    def layout(self) -> GenerationLayout:
        """How many keys the generation takes in a store of keys."""
        bucket_users = max(1, min(_BUCKET_USERS, _BUCKET_BYTES // self.mean_record_bytes))
        return GenerationLayout(
            user_buckets=max(1, math.ceil(self.users / bucket_users)),
            item_chunks=math.ceil(self.item_shape.size_bytes() / CHUNK_BYTES),
            chunk_bytes=CHUNK_BYTES,
        )


class GenerationLayout(Record, frozen=True):
    """The numbers from which the names of a generation's keys follow; none is searched for.

    They are kept with the generation, so that it stays readable when the rule that chose them
    changes.

    Attributes
    ----------
    user_buckets, item_chunks : int
    chunk_bytes : int
        Of each chunk but the last one.
    """

    user_buckets: Annotated[int, Meta(ge=1, lt=2**32)]
    item_chunks: Count32
    chunk_bytes: Annotated[int, Meta(ge=4096, le=1 << 30)]


class Totals(Record, frozen=True):
    """What a writer has stored so far, and the largest absolute value among it, part by part."""

    users: Count = 0
    items: Count = 0
    user_categories: Count = 0
    size_bytes: Count = 0
    largest_user: Magnitude = 0.0
    largest_item: Magnitude = 0.0
    largest_user_category: Magnitude = 0.0

    def plus(self, other: Totals) -> Totals:
        """Add counts and bytes; keep the larger of each pair of largest values."""
        return Totals(
            users=self.users + other.users,
            items=self.items + other.items,
            user_categories=self.user_categories + other.user_categories,
            size_bytes=self.size_bytes + other.size_bytes,
            largest_user=max(self.largest_user, other.largest_user),
            largest_item=max(self.largest_item, other.largest_item),
            largest_user_category=max(self.largest_user_category, other.largest_user_category),
        )


def default_totals(spec: GenerationSpec) -> Totals:
    """Return the totals of an empty generation: its default vectors' largest values."""

    def largest(vector: bytes | None) -> float:
        row = np.frombuffer(vector or b"", dtype=np.uint8)[np.newaxis, :]
        return largest_magnitude(row, spec.element_type)

    return Totals(
        largest_user=largest(spec.defaults.user),
        largest_item=largest(spec.defaults.item),
        largest_user_category=largest(spec.defaults.user_category),
    )


class GenerationManifest(Record, frozen=True):
    """A sealed generation's record of itself, stored beside its data and never changed.

    Attributes
    ----------
    generation : str
    spec : GenerationSpec
    layout : GenerationLayout
        Of its keys, in a store of keys.
    totals : Totals
        Default vectors are counted among the largest values.
    checksums : mapping of str to int
        Belongs to the backend.
    chunk_crc32s : bytes
        CRC-32 of each chunk of the items table, uint32 each; empty where there are no chunks.
    """

    generation: Name
    spec: GenerationSpec
    layout: GenerationLayout
    totals: Totals
    checksums: dict[str, Count] = field(default_factory=dict)
    chunk_crc32s: bytes = b""

    @property
    def records(self) -> RecordCodec:
        """What packs and unpacks the records of its users."""
        return self.spec.records(self.generation)

    @property
    def checksum(self) -> str:
        """The SHA-256 of this record, and so of its data, whose checksums it holds."""
        return f"sha256:{hashlib.sha256(self.to_bytes()).hexdigest()}"

    def to_bytes(self) -> bytes:
        """Serialise as sealed JSON."""
        return seal(self, MANIFEST_FORMAT)

    @classmethod
    def from_bytes(cls, raw: bytes, generation: str) -> Self:
        """Read the manifest of a generation that `to_bytes` gave.

        Raises
        ------
        RecordError
            If it is damaged, another generation's, or does not fit itself; names the field.
        """
        manifest = unseal(raw, MANIFEST_FORMAT, cls)
        if manifest.generation != generation:
            raise RecordError(f"$.generation: belongs to {manifest.generation}")
        manifest._check()
        return manifest

    def _check(self) -> None:
        """Check what readers rely on."""
        spec, totals = self.spec, self.totals
        for name in ("users", "items", "user_categories"):
            if getattr(spec, name) != getattr(totals, name):
                raise RecordError(f"$.totals.{name}: is not what was promised")
        if spec.user_categories and not spec.category_dim:
            raise RecordError("$.spec.category_dim: is 0, but there are pairs")
        for part, size in (
            ("user", spec.vector_stride),
            ("item", spec.vector_stride),
            ("user_category", spec.category_stride),
        ):
            vector = getattr(spec.defaults, part)
            if vector is not None and len(vector) != size:
                raise RecordError(f"$.spec.defaults.{part}: has {len(vector)} bytes, not {size}")
        if self.chunk_crc32s:
            self._check_chunks()

    def _check_chunks(self) -> None:
        layout = self.layout
        chunks = -(-self.spec.item_shape.size_bytes() // layout.chunk_bytes)
        if layout.item_chunks != chunks:
            raise RecordError(f"$.layout.item_chunks: is {layout.item_chunks}, not {chunks}")
        if len(self.chunk_crc32s) != _CRC_BYTES * chunks:
            raise RecordError(f"$.chunk_crc32s: are not those of {chunks} chunks")


def read_manifest(raw: bytes, generation: str) -> GenerationManifest:
    """Read a generation's manifest from its stored form.

    Raises
    ------
    GenerationCorruptError
        If it is damaged, or another generation's.
    """
    try:
        return GenerationManifest.from_bytes(raw, generation)
    except RecordError as exc:
        raise GenerationCorruptError(generation, f"its manifest: {exc}") from exc


def unpacked(
    manifest: GenerationManifest, ids: Ids, records: Sequence[bytes | memoryview]
) -> UserBlock:
    """Unpack the records of some users as they are stored.

    Raises
    ------
    GenerationCorruptError
        If one is damaged, or another user's.
    """
    try:
        return manifest.records.unpack(ids, records)
    except LayoutError as exc:
        raise GenerationCorruptError(manifest.generation, str(exc)) from exc
