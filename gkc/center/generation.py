"""A generation in the form that answers requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from gkc.center.question import ANSWER_TYPES, AnswerType
from gkc.errors import GenerationCorruptError, LayoutError
from gkc.knowledge import Part
from gkc.rows import GenerationRows
from gkc.store import GenerationManifest, ItemTable, RecordCodec, Totals

_F16_OVERFLOW: Final = np.float32(65520)
"""The smallest value that rounds to infinity as f16."""


@dataclass(frozen=True, slots=True)
class LoadedGeneration:
    """A generation that can answer: its manifest, and its items as the compiled rule takes them.

    Attributes
    ----------
    manifest : GenerationManifest
    items : ItemTable
    records : RecordCodec
        What checks its users' records.
    rows : GenerationRows
        What rows are laid from.
    has_strings : bool
        Whether ids of some kind are strings.
    tasks : str
        What its bundle tells of the tasks, as JSON; empty where it tells nothing.
    overflowing : mapping
        For each type of answer, the parts that may not stay finite in it, and how large they get.
    """

    manifest: GenerationManifest
    items: ItemTable
    records: RecordCodec
    rows: GenerationRows
    has_strings: bool
    tasks: str
    overflowing: Mapping[AnswerType, Mapping[Part, float]]

    @classmethod
    def of(cls, manifest: GenerationManifest, items: ItemTable) -> LoadedGeneration:
        """Put a manifest and its items together.

        Raises
        ------
        GenerationCorruptError
            If sections of the items or a default vector do not fit the manifest.
        """
        spec, defaults = manifest.spec, manifest.spec.defaults
        vectors = {
            "user": defaults.user,
            "item": defaults.item,
            "user_category": defaults.user_category,
        }
        try:
            return cls(
                manifest,
                items,
                manifest.records,
                GenerationRows(
                    spec.element_type,
                    spec.dim,
                    spec.category_dim,
                    items.sections,
                    items.count,
                    vectors,
                    defaults.item_category,
                ),
                "string" in (spec.user_id_type, spec.item_id_type, spec.category_id_type),
                msgspec.json.encode(spec.origin.tasks).decode() if spec.origin.tasks else "",
                {dtype: _overflowing(manifest.totals, dtype) for dtype in ANSWER_TYPES},
            )
        except LayoutError as exc:
            raise GenerationCorruptError(manifest.generation, str(exc)) from exc


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
