"""What was written is what is read."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from gkc.errors import LayoutError
from gkc.store import (
    ELEMENT_TYPES,
    Defaults,
    ElementType,
    KnowledgeReader,
    Publisher,
    Summary,
    encode_vectors,
)
from gkc.strings import Ids, IdType, StringIds
from gkc.testing.contract.store_place import Served, StoreFixtures
from gkc.testing.samples import (
    MEMORY_BYTES,
    assert_same_items,
    assert_serves,
    catalogue_of,
    current_manifest,
    item_tables,
    make_sample,
    publish_sample,
    stage,
    strangers,
    write_sample,
)


def among_strangers(ids: Ids) -> Ids:
    """Return the tenth of some ids between two that no sample has."""
    if isinstance(ids, StringIds):
        first, _, last = strangers("string").tolist()
        return StringIds.of([first, ids.tolist()[9], last])
    return np.array([12345, ids[9], -54321], dtype=np.int64)


class ReadContract(StoreFixtures):
    """Tests of what a reader gives."""

    @pytest.mark.parametrize("element_type", ELEMENT_TYPES)
    async def test_round_trip_is_bit_exact(
        self,
        publisher: Publisher,
        reader: KnowledgeReader,
        element_type: ElementType,
        id_type: IdType,
    ) -> None:
        sample = make_sample(element_type=element_type, id_type=id_type)
        publish_sample(publisher, sample)
        await assert_serves(reader, await current_manifest(reader, "v1"), sample)

    async def test_what_is_mapped_is_whole_when_it_is_read_again(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        publish_sample(publisher, make_sample())
        items = await reader.item_table(await current_manifest(reader, "v1"), MEMORY_BYTES)
        for _ in reader.scrub(items):
            assert not reader.has_changed(items)
        items.close()

    @pytest.mark.parametrize(("users", "items"), [(0, 0), (1, 0), (0, 1), (1, 1), (9, 3)])
    async def test_small_and_empty_generations(
        self,
        publisher: Publisher,
        reader: KnowledgeReader,
        users: int,
        items: int,
        id_type: IdType,
    ) -> None:
        sample = make_sample(users=users, items=items, id_type=id_type)
        publish_sample(publisher, sample)
        manifest = await current_manifest(reader, "v1")
        await assert_serves(reader, manifest, sample)
        await reader.verify(manifest, lambda rows: None)
        unknown = strangers(id_type)
        assert list(await reader.fetch_users(manifest, unknown)) == [None] * 3
        async for table in item_tables(reader, manifest, unknown):
            assert table.rows_of(unknown).tolist() == [-1] * 3

    async def test_order_is_kept_and_duplicates_too(
        self, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        order = np.random.default_rng(5).permutation(len(sample.users.ids))[:50]
        records = await reader.fetch_users(manifest, sample.users.id_column[order])
        expected = sample.records(manifest.generation)
        assert [bytes(r) for r in records if r is not None] == [expected[k] for k in order]
        picks = np.array([7, 3, 7, 0, 2299, 3], dtype=np.int64)
        table = await reader.item_table(manifest, MEMORY_BYTES)
        assert_same_items(
            table.take(table.rows_of(sample.items.id_column[picks])), sample.items.take(picks)
        )
        table.close()

    async def test_an_empty_batch_is_answered_empty(
        self, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        nobody = np.zeros(0, dtype=np.int64)
        none = sample.items.id_column[nobody]
        assert list(await reader.fetch_users(manifest, none)) == []
        async for table in item_tables(reader, manifest, none):
            assert table.rows_of(none).tolist() == []
            assert table.take(nobody).k_i.shape == (0, manifest.spec.vector_stride)

    async def test_unknown_ids_are_told_from_known_ones(
        self, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        expected = sample.records(manifest.generation)[9]
        mixed = among_strangers(sample.users.id_column)
        records = await reader.fetch_users(manifest, mixed)
        assert [None if r is None else bytes(r) for r in records] == [None, expected, None]
        mixed = among_strangers(sample.items.id_column)
        async for table in item_tables(reader, manifest, mixed):
            rows = table.rows_of(mixed)
            assert (rows >= 0).tolist() == [False, True, False]
            assert_same_items(table.take(rows[1:2]), sample.items.take(slice(9, 10)))

    async def test_few_items_come_as_the_table_that_serving_reads(
        self, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        few = await reader.items_of(manifest, sample.items.id_column[np.arange(40, 30, -1)])
        whole = await reader.item_table(manifest, MEMORY_BYTES)
        assert few.sections.keys() == whole.sections.keys()
        assert bytes(few.sections["ids"][:80]) == sample.items.ids[31:41].tobytes()
        assert bytes(few.sections["rows"]) == sample.items.k_i[31:41].tobytes()
        few.close()
        whole.close()

    async def test_a_record_tells_whose_it_is(
        self, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        users = sample.users.id_column[:2]
        who = str(users[0]) if isinstance(users, np.ndarray) else users.tolist()[0].decode()
        first, second = await reader.fetch_users(manifest, users)
        stored = manifest.records.unpack(users, [first, second])
        np.testing.assert_array_equal(stored.k_u, sample.users.k_u[:2])
        with pytest.raises(LayoutError, match=rf"of user {re.escape(who)} is .* of another user"):
            manifest.records.unpack(users, [second, first])
        other = manifest.spec.records("another generation")
        with pytest.raises(LayoutError, match="generation"):
            other.unpack(users[:1], [first])

    async def test_answers_do_not_alias_the_store(
        self, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        table = await reader.item_table(manifest, MEMORY_BYTES)
        rows = table.rows_of(sample.items.id_column)
        few = await reader.items_of(manifest, sample.items.id_column[:50])
        for block in (table.take(rows), few.take(np.arange(50))):
            block.k_i[:] = 99
            block.categories[:] = 99
            block.has_category[:] = True
        assert_same_items(table.take(rows), sample.items)
        table.close()
        await assert_serves(reader, manifest, sample)

    async def test_manifest_totals_and_summary_tell_what_was_written(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample(element_type="f32", value=-2.5)
        default = encode_vectors(np.full((1, 6), -7.0, dtype=np.float32), "f32").tobytes()
        spec = structs.replace(sample.spec, defaults=Defaults(item=default, item_category=-3))
        publish_sample(publisher, replace(sample, spec=spec))
        manifest = await current_manifest(reader, "v1")
        assert manifest.spec == spec
        totals = manifest.totals
        assert (totals.users, totals.items) == (1200, 2300)
        assert totals.user_categories == spec.user_categories
        assert totals.size_bytes > 1200 * spec.vector_stride + 2300 * spec.vector_stride
        assert (totals.largest_user, totals.largest_user_category) == (2.5, 2.5)
        assert totals.largest_item == 7.0
        summary = (await catalogue_of(reader)).generations[manifest.generation].summary
        assert summary == Summary.of(manifest)

    async def test_all_users_can_be_read(self, served: Served, reader: KnowledgeReader) -> None:
        manifest, sample = served.manifest, served.sample
        read: list[tuple[int, bytes]] = []
        async for block in reader.users(manifest):
            read += zip(block.ids.tolist(), manifest.records.pack(block), strict=True)
        expected = zip(sample.users.ids.tolist(), sample.records(manifest.generation), strict=True)
        assert sorted(read) == sorted(expected)

    async def test_verify_passes_and_counts_every_row(
        self, served: Served, reader: KnowledgeReader
    ) -> None:
        seen: list[int] = []
        await reader.verify(served.manifest, seen.append)
        assert sum(seen) == 1200 + 2300

    async def test_a_sealed_generation_can_be_verified_before_it_is_published(
        self, publisher: Publisher, reader: KnowledgeReader, id_type: IdType
    ) -> None:
        sample = make_sample(id_type=id_type)
        with stage(publisher, sample.spec) as staged:
            manifest = write_sample(staged, sample)
            await reader.verify(manifest, lambda rows: None)
            await assert_serves(reader, manifest, sample)

    async def test_closing_a_table_twice_is_harmless(
        self, served: Served, reader: KnowledgeReader
    ) -> None:
        table = await reader.item_table(served.manifest, 0)
        assert table.size_bytes > 2300 * 12
        table.close()
        table.close()
