"""A generation in the form that answers requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gkc.arrays import F32
from gkc.errors import GenerationCorruptError, LayoutError
from gkc.knowledge import Part
from gkc.service.schemas import ANSWER_TYPES, AnswerType
from gkc.store import GenerationManifest, ItemTable, RecordCodec, Totals, decode_vectors

_F16_OVERFLOW: Final = np.float32(65520)
"""The smallest value that rounds to infinity as f16."""


@dataclass(frozen=True, slots=True)
class LoadedGeneration:
    """A generation that can answer: its manifest, its items, its default vectors decoded.

    Attributes
    ----------
    manifest : GenerationManifest
    items : ItemTable
    default_user, default_item, default_user_category : ndarray, shape (D,) or (D_c,), or None
        float32; None where ids that were not exported get zeros.
    overflowing : mapping
        For each type of answer, the parts that may not stay finite in it, and how large they get.
    records : RecordCodec
        What unpacks its users' records.
    """

    manifest: GenerationManifest
    items: ItemTable
    default_user: F32 | None
    default_item: F32 | None
    default_user_category: F32 | None
    overflowing: Mapping[AnswerType, Mapping[Part, float]]
    records: RecordCodec

    @classmethod
    def of(cls, manifest: GenerationManifest, items: ItemTable) -> LoadedGeneration:
        """Put a manifest and its items together.

        Raises
        ------
        GenerationCorruptError
            If a default vector is not as wide as its part.
        """
        spec, stored = manifest.spec, manifest.spec.defaults

        def decoded(vector: bytes | None, width: int) -> F32 | None:
            if vector is None:
                return None
            row = np.frombuffer(vector, dtype=np.uint8)[np.newaxis]
            return decode_vectors(row, spec.element_type, width).reshape(width)

        try:
            return cls(
                manifest,
                items,
                decoded(stored.user, spec.dim),
                decoded(stored.item, spec.dim),
                decoded(stored.user_category, spec.category_dim),
                {dtype: _overflowing(manifest.totals, dtype) for dtype in ANSWER_TYPES},
                manifest.records,
            )
        except LayoutError as exc:
            raise GenerationCorruptError(manifest.generation, f"default vector: {exc}") from exc


def _overflowing(totals: Totals, dtype: AnswerType) -> dict[Part, float]:
    """Return the parts that may overflow an answer's type, and their largest values."""
    user, item = np.float32(totals.largest_user), np.float32(totals.largest_item)
    with np.errstate(over="ignore"):
        product = user * item
    largest: dict[Part, np.float32] = {
        "user": user,
        "item": item,
        "user_item": product,
        "user_category": np.float32(totals.largest_user_category),
    }
    limit = _F16_OVERFLOW if dtype == "f16" else np.float32(np.inf)
    return {part: float(value) for part, value in largest.items() if value >= limit}
