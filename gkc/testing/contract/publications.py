"""Publishing: nothing is seen before, all of it at once, and what is replaced goes."""

from __future__ import annotations

import asyncio
from contextlib import closing

import numpy as np
import pytest
from msgspec import structs

from gkc.errors import (
    GenerationImmutableError,
    GenerationNotFoundError,
    LayoutError,
    NoPreviousGenerationError,
    VersionLimitError,
    VersionNotFoundError,
)
from gkc.store import KnowledgeReader, Publisher, encode_vectors
from gkc.testing.clock import clock_off
from gkc.testing.contract.store_place import Served, StoreFixtures, StorePlace
from gkc.testing.samples import (
    Sample,
    assert_serves,
    catalogue_of,
    current_manifest,
    interrupt_export,
    make_sample,
    publish_sample,
    publish_staged,
    small_sample,
    stage,
    write_sample,
)


class PublicationContract(StoreFixtures):
    """Tests of publishing, rolling back, evicting and deleting."""

    async def test_a_new_store_holds_nothing(self, reader: KnowledgeReader) -> None:
        assert await reader.catalogue() is None

    async def test_an_unpublished_generation_is_invisible(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        with stage(publisher, sample.spec) as staged:
            for _ in range(2):
                assert dict((await catalogue_of(reader)).versions) == {}
                write_sample(staged, sample)

    async def test_leaving_without_publishing_deletes_what_was_written(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        sample = make_sample()
        with stage(publisher, sample.spec) as staged:
            write_sample(staged, sample)
            assert place.data_of(staged.generation)
        assert not place.data_of(staged.generation)
        generation = interrupt_export(publisher, sample, "items", ZeroDivisionError())
        assert not place.data_of(generation)
        assert dict(publisher.catalogue().generations) == {}

    async def test_a_sealed_generation_never_changes(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        with stage(publisher, sample.spec) as staged:
            manifest = write_sample(staged, sample)
            with pytest.raises(GenerationImmutableError):
                staged.sink.write_items(sample.items)
            with pytest.raises(GenerationImmutableError):
                staged.sink.write_users(sample.users)
            publish_staged(publisher, staged, manifest)
            with pytest.raises(GenerationImmutableError):
                staged.sink.write_items(sample.items)
        await assert_serves(reader, manifest, sample)

    async def test_sealing_needs_the_promised_counts(self, publisher: Publisher) -> None:
        sample = make_sample()
        for users, items, pairs in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
            spec = structs.replace(
                sample.spec,
                users=sample.spec.users + users,
                items=sample.spec.items + items,
                user_categories=sample.spec.user_categories + pairs,
            )
            with stage(publisher, spec) as staged, pytest.raises(LayoutError):
                write_sample(staged, sample)

    async def test_versions_are_served_side_by_side(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        samples = {f"v{k}": make_sample(f"v{k}", k * 10) for k in range(3)}
        for sample in samples.values():
            publish_sample(publisher, sample)
        for version, sample in samples.items():
            await assert_serves(reader, await current_manifest(reader, version), sample)

    async def test_publication_is_all_or_nothing_under_a_concurrent_reader(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        samples = [make_sample(value=float(k), users=300, items=300) for k in range(1, 9)]

        def export_all() -> None:
            for sample in samples:
                publish_sample(publisher, sample, keep_previous=0)

        publishing = asyncio.create_task(asyncio.to_thread(export_all))
        seen: set[float] = set()
        last = False
        while not last:
            last = publishing.done()  # one more look when all is published
            catalogue = await reader.catalogue()
            if catalogue is not None and catalogue.versions:
                try:
                    seen.add(await _one_value(reader, "v1", samples[0]))
                except GenerationNotFoundError:
                    assert not last  # deleted under us: only while newer ones are published
            await asyncio.sleep(0)
        await publishing
        assert 8.0 in seen
        assert seen <= {float(k) for k in range(1, 9)}

    async def test_six_versions_leave_five_and_no_data_of_the_first(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        samples = [make_sample(f"v{k}", k, users=600, items=600) for k in range(6)]
        published = [publish_sample(publisher, sample) for sample in samples]
        assert [p.evicted for p in published] == [[], [], [], [], [], ["v0"]]
        catalogue = await catalogue_of(reader)
        assert catalogue.newest_first() == ["v5", "v4", "v3", "v2", "v1"]
        assert set(catalogue.generations) == {p.generation for p in published[1:]}
        assert not place.data_of(published[0].generation)
        for sample, done in zip(samples[1:], published[1:], strict=True):
            assert place.data_of(done.generation)
            await assert_serves(reader, await reader.manifest(done.generation), sample)
        with pytest.raises(GenerationNotFoundError):
            await reader.manifest(published[0].generation)

    async def test_eviction_takes_the_earliest_unpinned_version(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        for name in ("a", "b", "c"):
            publish_sample(publisher, small_sample(name), max_versions=3)
        publish_sample(publisher, small_sample("a", 7), max_versions=3)  # now the newest
        publisher.set_pinned("b", pinned=True)
        published = publish_sample(publisher, small_sample("d"), max_versions=3)
        assert published.evicted == ["c"]
        published = publish_sample(publisher, small_sample("e"), max_versions=2)
        assert published.evicted == ["a", "d"]
        assert set(publisher.catalogue().versions) == {"b", "e"}
        for generation in published.retired:
            assert not place.data_of(generation)

    async def test_a_full_house_of_pins_is_refused_before_anything_is_written(
        self, publisher: Publisher
    ) -> None:
        for name in ("a", "b"):
            publish_sample(publisher, small_sample(name), pin=True)
        before = publisher.catalogue()
        with pytest.raises(VersionLimitError, match="a, b"):
            publisher.check_export("c", 2)
        with (
            pytest.raises(VersionLimitError),
            publisher.stage(small_sample("c").spec, max_versions=2, resume=False),
        ):
            pytest.fail("staged in spite of the pins")
        assert publisher.catalogue() == before
        assert publisher.check_export("a", 2) == []  # one that is there needs no room

    async def test_previous_is_kept_until_the_next_publication(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        samples = [make_sample("v1", k) for k in range(3)]
        generations = [publish_sample(publisher, s).generation for s in samples]
        entry = publisher.catalogue().version("v1")
        assert (entry.current, entry.previous) == (generations[2], generations[1])
        assert [bool(place.data_of(g)) for g in generations] == [False, True, True]
        for generation, sample in zip(generations[1:], samples[1:], strict=True):
            await assert_serves(reader, await reader.manifest(generation), sample)

    async def test_no_previous_is_kept_if_none_is_wanted(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        first = publish_sample(publisher, make_sample(), keep_previous=0).generation
        publish_sample(publisher, make_sample("v1", 1), keep_previous=0)
        assert publisher.catalogue().version("v1").previous is None
        assert not place.data_of(first)

    async def test_rolling_back_twice_undoes_it(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        old, new = make_sample("v1", 0), make_sample("v1", 1)
        publish_sample(publisher, old)
        with pytest.raises(NoPreviousGenerationError):
            publisher.rollback("v1")
        publish_sample(publisher, new)
        publisher.rollback("v1")
        await assert_serves(reader, await current_manifest(reader, "v1"), old)
        publisher.rollback("v1")
        await assert_serves(reader, await current_manifest(reader, "v1"), new)

    async def test_deleting_a_version_deletes_its_data(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        generations = [publish_sample(publisher, make_sample("v1", k)).generation for k in (0, 1)]
        publish_sample(publisher, make_sample("v2", 2))
        publisher.delete("v1", 0.0)
        assert sorted(publisher.delete_retired(wait=True)) == generations
        assert not any(place.data_of(g) for g in generations)
        assert (await catalogue_of(reader)).newest_first() == ["v2"]
        with pytest.raises(VersionNotFoundError, match="v2"):
            publisher.delete("v1", 0.0)
        for generation in generations:
            with pytest.raises(GenerationNotFoundError):
                await reader.manifest(generation)

    async def test_a_retired_generation_is_readable_during_its_grace(
        self, place: StorePlace, publisher: Publisher, served: Served, reader: KnowledgeReader
    ) -> None:
        sample, manifest = served
        publisher.delete("v1", 3600.0)
        assert publisher.delete_retired(wait=False) == []
        await assert_serves(reader, manifest, sample)
        assert place.data_of(manifest.generation)

    @pytest.mark.parametrize("retires", [-1, 0, 1])
    async def test_clocks_an_hour_off_delete_nothing_within_grace(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader, retires: int
    ) -> None:
        sample = small_sample("v1")
        publish_sample(publisher, sample)
        manifest = await current_manifest(reader, "v1")
        with clock_off(retires):
            publisher.delete("v1", 600.0)
        for deletes in (-1, 0, 1):
            storage, _ = place.open_pair()  # of another process, which sees it for the first time
            with clock_off(deletes), closing(storage):
                assert Publisher(storage).sweep() == []
                assert Publisher(storage).delete_retired(wait=False) == []
        await assert_serves(reader, manifest, sample)

    def test_a_clock_an_hour_off_is_not_waited_for(
        self, publisher: Publisher, second_publisher: Publisher
    ) -> None:
        publish_sample(publisher, small_sample("v1"))
        with clock_off(1):
            publisher.delete("v1", 0.0)
        assert len(second_publisher.delete_retired(wait=True)) == 1

    async def test_namespaces_do_not_meet(
        self, place: StorePlace, publisher: Publisher, served: Served, reader: KnowledgeReader
    ) -> None:
        storage, other = place.open_pair(place.namespace + ".other")
        try:
            assert storage.read_catalogue() is None
            assert await other.catalogue() is None
            publish_sample(Publisher(storage), make_sample("elsewhere"))
            assert publisher.catalogue().newest_first() == ["v1"]
            await assert_serves(reader, await current_manifest(reader, "v1"), served.sample)
        finally:
            await other.close()
            storage.close()


async def _one_value(reader: KnowledgeReader, version: str, sample: Sample) -> float:
    """Read a version whose vectors all hold one value, and return it; fail on a mixture."""
    manifest = await current_manifest(reader, version)
    users = await reader.fetch_users(manifest, sample.users.ids)
    table = await reader.items_of(manifest, sample.items.ids)
    items = table.take(np.arange(len(sample.items.ids)))
    table.close()
    value = float(manifest.spec.bundle)
    expected = encode_vectors(np.full((1, 6), value, dtype=np.float32), "f16")
    assert (items.k_i == expected).all()
    stored = manifest.records.unpack(sample.users.ids, users)
    assert (stored.k_u == expected).all()
    return value
