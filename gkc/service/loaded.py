"""A generation in the form that answers requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gkc.errors import GenerationCorruptError, LayoutError
from gkc.knowledge import F32
from gkc.store import GenerationManifest, ItemTable, decode_vectors


@dataclass(frozen=True, slots=True)
class LoadedGeneration:
    """A generation that can answer: its manifest, its items, its default vectors decoded.

    Attributes
    ----------
    manifest : GenerationManifest
    items : ItemTable
    default_user, default_item, default_user_category : ndarray, shape (D,) or (D_c,), or None
        float32; None where ids that were not exported get zeros.
    """

    manifest: GenerationManifest
    items: ItemTable
    default_user: F32 | None
    default_item: F32 | None
    default_user_category: F32 | None

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
            )
        except LayoutError as exc:
            raise GenerationCorruptError(manifest.generation, f"default vector: {exc}") from exc
