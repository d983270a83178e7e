"""What a generation is made of: what a writer starts with, the manifest it ends with. No I/O."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np

from gkc.errors import LayoutError
from gkc.store.codec import ElementType, largest_magnitude, stride

VERSION_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A version's name, whole."""

MANIFEST_FORMAT: Final = "gkc-generation/1"
_BUCKET_BYTES: Final = 4_000_000
_BUCKET_USERS: Final = 512
_BLOCK_ITEMS: Final = 1000
_ITEM_BYTES: Final = 17  # id, category, whether it has one
_BLOCK_OVERHEAD_BYTES: Final = 32


@lru_cache(maxsize=1024)
def is_version_name(name: str) -> bool:
    """Tell whether ``name`` may name a version: 1 to 64 of ``A-Z a-z 0-9 . _ -``."""
    return VERSION_PATTERN.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What answers for ids that were not exported: one stored vector a part, None for zeros.

    ``item_category`` is the category that an unknown item has, None for none.
    """

    user: bytes | None = None
    item: bytes | None = None
    user_category: bytes | None = None
    item_category: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """All that is known of a generation before its first vector is written.

    Attributes
    ----------
    version : str
    element_type : {"f16", "f32", "int8"}
    dim, category_dim : int
        Width of K_u and K_i, and of K_uc.
    users, items, user_categories : int
        How many of each will be written.
    bundle : str
        Name of the bundle in its manifest.
    fingerprint : str
        Digest of the bundle and of what decides the stored bytes; only an equal one may be resumed.
    defaults : Defaults
    compatible_with : list of object
        Older versions in whose axes the vectors lie, as the bundle tells of them; JSON values.
    """

    version: str
    element_type: ElementType
    dim: int
    category_dim: int
    users: int
    items: int
    user_categories: int
    bundle: str
    fingerprint: str
    defaults: Defaults = Defaults()
    compatible_with: list[dict[str, Any]] = field(default_factory=list)

    @property
    def vector_stride(self) -> int:
        """Bytes of one stored K_u or K_i."""
        return stride(self.element_type, self.dim)

    @property
    def category_stride(self) -> int:
        """Bytes of one stored K_uc."""
        return stride(self.element_type, self.category_dim)

    @property
    def layout(self) -> GenerationLayout:
        """How many keys the generation takes in a store of keys."""
        pairs = self.user_categories / self.users if self.users else 0.0
        record_bytes = self.vector_stride + pairs * (8 + self.category_stride)
        bucket_users = max(1, min(_BUCKET_USERS, int(_BUCKET_BYTES / max(record_bytes, 1.0))))
        return GenerationLayout(
            user_buckets=max(1, math.ceil(self.users / bucket_users)),
            item_blocks=math.ceil(self.items / self.block_items),
        )

    @property
    def block_items(self) -> int:
        """Items of one block: 1000, or fewer where that leaves less memory unused.

        A server of keys takes memory in sizes of four to an octave; a block just over one of them
        would waste up to a fifth, so it is made to stay just under.
        """
        item_bytes = _ITEM_BYTES + self.vector_stride
        wanted = _BLOCK_OVERHEAD_BYTES + _BLOCK_ITEMS * item_bytes
        step = 1 << (wanted.bit_length() - 3)
        return (wanted // step * step - _BLOCK_OVERHEAD_BYTES) // item_bytes


@dataclass(frozen=True, slots=True)
class GenerationLayout:
    """The counts from which the names of a generation's keys follow; none is searched for."""

    user_buckets: int
    item_blocks: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What a writer has stored so far, and the largest absolute value among it, part by part."""

    users: int = 0
    items: int = 0
    user_categories: int = 0
    size_bytes: int = 0
    largest_user: float = 0.0
    largest_item: float = 0.0
    largest_user_category: float = 0.0

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


@dataclass(frozen=True, slots=True)
class GenerationManifest:
    """A sealed generation's record of itself, stored beside its data and never changed.

    ``totals`` counts the default vectors among the largest values. ``checksums`` belongs to the
    backend.
    """

    generation: str
    spec: GenerationSpec
    totals: Totals
    checksums: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON-ready values."""
        spec = asdict(self.spec)
        defaults = self.spec.defaults
        spec["defaults"] = {
            "user": _to_text(defaults.user),
            "item": _to_text(defaults.item),
            "user_category": _to_text(defaults.user_category),
            "item_category": defaults.item_category,
        }
        return {
            "format": MANIFEST_FORMAT,
            "generation": self.generation,
            "spec": spec,
            "totals": asdict(self.totals),
            "checksums": dict(self.checksums),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build the manifest that `to_json` gave.

        Raises
        ------
        LayoutError
            If the value is no manifest of this format.
        """
        if value.get("format") != MANIFEST_FORMAT:
            raise LayoutError(
                f"expected a manifest of format {MANIFEST_FORMAT}, not {value.get('format')!r}"
            )
        try:
            raw = dict(value["spec"])
            stored = raw.pop("defaults")
            defaults = Defaults(
                user=_to_bytes(stored["user"]),
                item=_to_bytes(stored["item"]),
                user_category=_to_bytes(stored["user_category"]),
                item_category=stored["item_category"],
            )
            return cls(
                generation=value["generation"],
                spec=replace(GenerationSpec(**raw), defaults=defaults),
                totals=Totals(**value["totals"]),
                checksums=dict(value["checksums"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise LayoutError(
                f"the manifest of a generation does not fit its format: {exc!r}"
            ) from exc


def _to_text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")


def _to_bytes(value: str | None) -> bytes | None:
    return None if value is None else base64.b64decode(value, validate=True)
