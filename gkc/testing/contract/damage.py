"""What is missing or damaged is told as such, and from what was deleted."""

from __future__ import annotations

import pytest

from gkc.errors import CatalogueLostError, GenerationCorruptError, GenerationNotFoundError
from gkc.store import GenerationManifest, KnowledgeReader, Publisher
from gkc.testing.contract.store_place import Served, StoreFixtures, StorePlace
from gkc.testing.samples import MEMORY_BYTES


class DamageContract(StoreFixtures):
    """Tests of what is not there, or not what it was."""

    async def test_a_catalogue_that_is_none_is_lost_not_empty(
        self, place: StorePlace, served: Served, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        place.set_catalogue(b"{]")
        with pytest.raises(CatalogueLostError):
            await reader.catalogue()
        with pytest.raises(CatalogueLostError):
            publisher.catalogue()
        place.set_catalogue(None)
        assert await reader.catalogue() is None

    async def test_a_missing_piece_of_users_is_damage_not_unknown_users(
        self, place: StorePlace, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        place.lose_user(manifest.generation, sample.users.id_column[0:1])
        with pytest.raises(GenerationCorruptError, match=manifest.generation):
            await reader.fetch_users(manifest, sample.users.id_column[:1])
        await _assert_damage_is_found(reader, manifest)

    async def test_a_missing_piece_of_items_is_damage_not_unknown_items(
        self, place: StorePlace, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        place.lose_item(manifest.generation, sample.items.id_column[0:1])
        with pytest.raises(GenerationCorruptError, match=manifest.generation):
            await reader.items_of(manifest, sample.items.id_column[:1])
        with pytest.raises(GenerationCorruptError, match=manifest.generation):
            await reader.item_table(manifest, MEMORY_BYTES)
        await _assert_damage_is_found(reader, manifest)

    async def test_a_missing_manifest_is_damage(
        self, place: StorePlace, served: Served, reader: KnowledgeReader
    ) -> None:
        generation = served.manifest.generation
        place.lose_manifest(generation)
        with pytest.raises(GenerationCorruptError, match=generation):
            await reader.manifest(generation)

    async def test_verify_finds_a_flipped_bit_of_a_user(
        self, place: StorePlace, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        place.flip_user_byte(manifest.generation, sample.users.id_column[700:701])
        await _assert_damage_is_found(reader, manifest)

    async def test_verify_finds_a_flipped_bit_of_an_item(
        self, place: StorePlace, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        place.flip_item_byte(manifest.generation, sample.items.id_column[1700:1701])
        await _assert_damage_is_found(reader, manifest)

    async def test_a_deleted_generation_is_not_found(
        self, served: Served, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        publisher.delete("v1", 0.0)
        publisher.delete_retired(wait=True)
        with pytest.raises(GenerationNotFoundError):
            await reader.fetch_users(manifest, sample.users.id_column[:3])
        with pytest.raises(GenerationNotFoundError):
            await reader.items_of(manifest, sample.items.id_column[:3])
        with pytest.raises(GenerationNotFoundError):
            await reader.verify(manifest, lambda rows: None)


async def _assert_damage_is_found(reader: KnowledgeReader, manifest: GenerationManifest) -> None:
    with pytest.raises(GenerationCorruptError, match=manifest.generation):
        await reader.verify(manifest, lambda rows: None)
