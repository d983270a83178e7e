"""Catalogues of format 1, read for one purpose: to delete by known names what they name."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gkc.errors import RecordError
from gkc.store.generation import CHUNK_BYTES, GenerationLayout, Name
from gkc.store.sealed import Count32, decode_old


class _OldLayout(msgspec.Struct):
    user_buckets: Annotated[int, Meta(ge=0, lt=2**32)]
    item_blocks: Count32


class _OldEntry(msgspec.Struct):
    version: Name
    layout: _OldLayout


class OldCatalogue(msgspec.Struct):
    """The part of a catalogue of format 1 that deleting needs."""

    format: Literal["gkc-catalogue/1"]
    generations: dict[Name, _OldEntry]

    @property
    def versions(self) -> list[str]:
        """The versions that somebody might be writing."""
        return sorted({entry.version for entry in self.generations.values()})

    @property
    def layouts(self) -> dict[str, GenerationLayout]:
        """How many keys each generation has, under names that were the same then."""
        return {
            generation: GenerationLayout(
                max(1, entry.layout.user_buckets), entry.layout.item_blocks, CHUNK_BYTES
            )
            for generation, entry in self.generations.items()
        }


def read_old_catalogue(raw: bytes) -> OldCatalogue:
    """Read a catalogue of format 1, as Redis held it, or sealed, as files did.

    Raises
    ------
    RecordError
        If it is none.
    """
    try:
        old = decode_old(raw, OldCatalogue)
    except RecordError as exc:
        raise RecordError(f"is no catalogue of format 1: {exc}") from exc
    if {".", ".."} & old.generations.keys():
        raise RecordError("$.generations: names a directory")
    return old
