"""What every store must do, whatever it is made of. A backend's tests subclass `StoreContract`.

The store is not its own witness: a `StorePlace` looks at what it holds, and damages it, without
going through it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import pytest
from msgspec import structs

from gkc.errors import (
    CatalogueLostError,
    GenerationCorruptError,
    GenerationImmutableError,
    GenerationNotFoundError,
    LayoutError,
    LeaseLostError,
    NoPreviousGenerationError,
    StoreUnavailableError,
    VersionBusyError,
    VersionLimitError,
    VersionNotFoundError,
)
from gkc.store import (
    ELEMENT_TYPES,
    Catalogue,
    Defaults,
    ElementType,
    GenerationManifest,
    KnowledgeReader,
    Publisher,
    Retention,
    StagedGeneration,
    Storage,
    encode_vectors,
)
from gkc.store import catalogue as rules
from gkc.testing.samples import (
    Sample,
    assert_same_items,
    assert_serves,
    current_manifest,
    item_slices,
    make_sample,
    publish_sample,
    small_sample,
    user_slices,
    write_sample,
)

MEMORY_BYTES = 1 << 30


class StorePlace(Protocol):
    """One empty store and namespace, seen from both sides."""

    url: str
    namespace: str

    def open_pair(self, namespace: str | None = None) -> tuple[Storage, KnowledgeReader]:
        """Open the store under test; another namespace of it, if one is given."""
        ...

    def data_of(self, generation: str) -> Mapping[str, bytes]:
        """Return all keys or files of a generation, by name, as they lie in the storage."""
        ...

    def put_back(self, data: Mapping[str, bytes]) -> None:
        """Write what `data_of` returned, as a writer would that was taken for dead."""
        ...

    def lose_user(self, generation: str, user: int) -> None:
        """Delete the bucket or file that holds a user."""
        ...

    def lose_item(self, generation: str, item: int) -> None:
        """Delete the block or file that holds an item."""
        ...

    def lose_manifest(self, generation: str) -> None:
        """Delete a generation's manifest."""
        ...

    def flip_user_byte(self, generation: str, user: int) -> None:
        """Change one bit of what is stored of a user."""
        ...

    def flip_item_byte(self, generation: str, item: int) -> None:
        """Change one bit of what is stored of an item."""
        ...

    def set_catalogue(self, raw: bytes | None) -> None:
        """Overwrite the catalogue, or delete it."""
        ...


class DyingWriter:
    """A process that stages a version up to a phase and then waits to be killed."""

    def __init__(self, place: StorePlace, version: str, phase: str) -> None:
        arguments = [place.url, place.namespace, version, phase]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gkc.testing.dying_writer", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.generation = self._process.stdout.readline().strip()
        assert self.generation

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class StoreContract:
    """The tests. A subclass overrides the fixture `place`."""

    @pytest.fixture
    def place(self) -> StorePlace:
        raise NotImplementedError

    @pytest.fixture
    def storage(self, place: StorePlace) -> Iterator[Storage]:
        storage, _ = place.open_pair()
        yield storage
        storage.close()

    @pytest.fixture
    def publisher(self, storage: Storage) -> Publisher:
        return Publisher(storage)

    @pytest.fixture
    async def reader(self, place: StorePlace) -> AsyncIterator[KnowledgeReader]:
        _, reader = place.open_pair()
        yield reader
        await reader.close()

    # ---- what was written is what is read

    @pytest.mark.parametrize("element_type", ELEMENT_TYPES)
    async def test_round_trip_is_bit_exact(
        self, publisher: Publisher, reader: KnowledgeReader, element_type: ElementType
    ) -> None:
        sample = make_sample(element_type=element_type)
        publish_sample(publisher, sample)
        await assert_serves(reader, await current_manifest(reader, "v1"), sample)

    @pytest.mark.parametrize(("users", "items"), [(0, 0), (1, 0), (0, 1), (1, 1), (9, 3)])
    async def test_small_and_empty_generations(
        self, publisher: Publisher, reader: KnowledgeReader, users: int, items: int
    ) -> None:
        sample = make_sample(users=users, items=items)
        publish_sample(publisher, sample)
        manifest = await current_manifest(reader, "v1")
        await assert_serves(reader, manifest, sample)
        await reader.verify(manifest, lambda rows: None)
        strangers = np.array([4, 5, -6], dtype=np.int64)
        assert list(await reader.fetch_users(manifest, strangers)) == [None] * 3
        table = await reader.item_table(manifest, MEMORY_BYTES)
        assert table.rows_of(strangers).tolist() == [-1] * 3
        table.close()

    async def test_order_is_kept_and_duplicates_too(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        publish_sample(publisher, sample)
        manifest = await current_manifest(reader, "v1")
        order = np.random.default_rng(5).permutation(len(sample.users.ids))[:50]
        records = await reader.fetch_users(manifest, sample.users.ids[order])
        expected = sample.records(manifest.generation)
        assert [bytes(r) for r in records if r is not None] == [expected[k] for k in order]
        picks = np.array([7, 3, 7, 0, 2299, 3], dtype=np.int64)
        table = await reader.item_table(manifest, MEMORY_BYTES)
        found = table.take(table.rows_of(sample.items.ids[picks]))
        table.close()
        np.testing.assert_array_equal(found.ids, sample.items.ids[picks])
        np.testing.assert_array_equal(found.k_i, sample.items.k_i[picks])

    async def test_an_empty_batch_is_answered_empty(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        publish_sample(publisher, make_sample())
        manifest = await current_manifest(reader, "v1")
        none = np.zeros(0, dtype=np.int64)
        assert list(await reader.fetch_users(manifest, none)) == []
        for table in (
            await reader.items_of(manifest, none),
            await reader.item_table(manifest, MEMORY_BYTES),
        ):
            assert table.rows_of(none).tolist() == []
            assert table.take(none).k_i.shape == (0, manifest.spec.vector_stride)
            table.close()

    async def test_unknown_ids_are_told_from_known_ones(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        publish_sample(publisher, sample)
        manifest = await current_manifest(reader, "v1")
        mixed = np.array([12345, sample.users.ids[9], -54321], dtype=np.int64)
        records = await reader.fetch_users(manifest, mixed)
        expected = sample.records(manifest.generation)[9]
        assert [None if r is None else bytes(r) for r in records] == [None, expected, None]
        mixed = np.array([12345, sample.items.ids[9], -54321], dtype=np.int64)
        for table in (
            await reader.items_of(manifest, mixed),
            await reader.item_table(manifest, MEMORY_BYTES),
        ):
            rows = table.rows_of(mixed)
            assert (rows >= 0).tolist() == [False, True, False]
            found = table.take(rows[1:2])
            np.testing.assert_array_equal(found.k_i[0], sample.items.k_i[9])
            table.close()

    async def test_few_items_come_as_the_table_that_serving_reads(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        publish_sample(publisher, sample)
        manifest = await current_manifest(reader, "v1")
        few = await reader.items_of(manifest, sample.items.ids[40:30:-1])
        whole = await reader.item_table(manifest, MEMORY_BYTES)
        assert few.sections.keys() == whole.sections.keys()
        assert bytes(few.sections["ids"][:80]) == sample.items.ids[31:41].tobytes()
        assert bytes(few.sections["rows"]) == sample.items.k_i[31:41].tobytes()
        few.close()
        whole.close()

    async def test_a_record_tells_whose_it_is(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        publish_sample(publisher, sample)
        manifest = await current_manifest(reader, "v1")
        users = sample.users.ids[:2]
        first, second = await reader.fetch_users(manifest, users)
        found = manifest.records.unpack(users, [first, second])
        np.testing.assert_array_equal(found.k_u, sample.users.k_u[:2])
        with pytest.raises(LayoutError, match=rf"record of user {users[0]} is .* of another user"):
            manifest.records.unpack(users, [second, first])
        other = manifest.spec.records("another generation")
        with pytest.raises(LayoutError, match="generation"):
            other.unpack(users[:1], [first])

    async def test_answers_do_not_alias_the_store(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        publish_sample(publisher, sample)
        manifest = await current_manifest(reader, "v1")
        table = await reader.item_table(manifest, MEMORY_BYTES)
        rows = table.rows_of(sample.items.ids)
        few = await reader.items_of(manifest, sample.items.ids[:50])
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
        catalogue = await reader.catalogue()
        assert catalogue is not None
        summary = catalogue.generations[manifest.generation].summary
        assert summary == rules.Summary.of(manifest)

    async def test_verify_passes_and_counts_every_row(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        publish_sample(publisher, make_sample())
        seen: list[int] = []
        await reader.verify(await current_manifest(reader, "v1"), seen.append)
        assert sum(seen) == 1200 + 2300

    async def test_a_sealed_generation_can_be_verified_before_it_is_published(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
            manifest = write_sample(staged, sample)
            await reader.verify(manifest, lambda rows: None)
            await assert_serves(reader, manifest, sample)

    # ---- publication

    async def test_a_new_store_holds_nothing(self, reader: KnowledgeReader) -> None:
        assert await reader.catalogue() is None

    async def test_an_unpublished_generation_is_invisible(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
            for _ in range(2):
                catalogue = await reader.catalogue()
                assert catalogue is not None
                assert dict(catalogue.versions) == {}
                write_sample(staged, sample)

    async def test_leaving_without_publishing_deletes_what_was_written(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        sample = make_sample()
        with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
            write_sample(staged, sample)
            assert place.data_of(staged.generation)
        assert not place.data_of(staged.generation)
        generation = self._interrupt(publisher, sample, "items", ZeroDivisionError())
        assert not place.data_of(generation)
        assert dict(publisher.catalogue().generations) == {}

    async def test_a_sealed_generation_never_changes(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
            manifest = write_sample(staged, sample)
            with pytest.raises(GenerationImmutableError):
                staged.sink.write_items(sample.items)
            with pytest.raises(GenerationImmutableError):
                staged.sink.write_users(sample.users)
            _publish(publisher, staged, manifest)
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
            with (
                publisher.stage(spec, max_versions=5, resume=False) as staged,
                pytest.raises(LayoutError),
            ):
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
        self, place: StorePlace, reader: KnowledgeReader
    ) -> None:
        samples = [make_sample(value=float(k), users=300, items=300) for k in range(1, 9)]

        def export_all() -> None:
            storage, _ = place.open_pair()
            publisher = Publisher(storage)
            for sample in samples:
                publish_sample(publisher, sample, keep_previous=0)
            publisher.close()

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
        catalogue = await reader.catalogue()
        assert catalogue is not None
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
        catalogue = await reader.catalogue()
        assert catalogue is not None
        assert catalogue.newest_first() == ["v2"]
        with pytest.raises(VersionNotFoundError, match="v2"):
            publisher.delete("v1", 0.0)
        for generation in generations:
            with pytest.raises(GenerationNotFoundError):
                await reader.manifest(generation)

    async def test_a_retired_generation_is_readable_during_its_grace(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        generation = publish_sample(publisher, sample).generation
        publisher.delete("v1", 3600.0)
        assert publisher.delete_retired(wait=False) == []
        await assert_serves(reader, await reader.manifest(generation), sample)
        assert place.data_of(generation)

    async def test_namespaces_do_not_meet(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        publish_sample(publisher, make_sample())
        storage, other = place.open_pair(place.namespace + ".other")
        try:
            assert storage.read_catalogue() is None
            assert await other.catalogue() is None
            publish_sample(Publisher(storage), make_sample("elsewhere"))
            assert publisher.catalogue().newest_first() == ["v1"]
            await assert_serves(reader, await current_manifest(reader, "v1"), make_sample())
        finally:
            await other.close()
            storage.close()

    # ---- several writers, and dead ones

    async def test_a_second_writer_of_a_version_is_refused_at_once(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        storage, _ = place.open_pair()
        second = Publisher(storage)
        sample, other = make_sample(), make_sample("v2", 1)
        with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
            manifest = write_sample(staged, sample)
            with (
                pytest.raises(VersionBusyError, match="process"),
                second.stage(sample.spec, max_versions=5, resume=False),
            ):
                pytest.fail("two writers of one version")
            publish_sample(second, other)  # another version may be exported meanwhile
            _publish(publisher, staged, manifest)
        publish_sample(second, make_sample("v1", 2))
        assert publisher.catalogue().newest_first() == ["v1", "v2"]
        second.close()

    @pytest.mark.parametrize("phase", ["begun", "written", "sealed"])
    async def test_a_killed_writer_leaves_nothing_visible_and_is_swept(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader, phase: str
    ) -> None:
        served = make_sample("v1", 3)
        publish_sample(publisher, served)
        writer = DyingWriter(place, "v1", phase)
        try:
            with (
                pytest.raises(VersionBusyError),
                publisher.stage(served.spec, max_versions=5, resume=False),
            ):
                pytest.fail("the other writer lives")
            assert publisher.sweep() == []
        finally:
            writer.kill()
        self.wait_until_dead(publisher, writer.generation)
        await assert_serves(reader, await current_manifest(reader, "v1"), served)
        leftovers = place.data_of(writer.generation)
        assert leftovers or phase == "begun"
        publish_sample(publisher, make_sample("v2", 4))
        publisher.sweep()
        assert not place.data_of(writer.generation)
        entry = publisher.catalogue().generations[writer.generation]
        assert (entry.state, entry.token) == ("abandoned", "")
        # The dead wakes up and writes again: a later run deletes that, too.
        place.put_back(leftovers)
        publish_sample(publisher, make_sample("v1", 5))
        assert not place.data_of(writer.generation)
        await assert_serves(reader, await current_manifest(reader, "v1"), make_sample("v1", 5))

    def wait_until_dead(self, publisher: Publisher, generation: str) -> None:
        """Return when the lease of a killed writer has passed; at once where the kernel sees it."""

    async def test_a_writer_taken_for_dead_cannot_publish(
        self, publisher: Publisher, storage: Storage
    ) -> None:
        sample = make_sample()
        with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
            manifest = write_sample(staged, sample)
            stored = publisher.catalogue()
            adopted = rules.adopt(stored, staged.generation, "another", "another writer")
            assert storage.swap_catalogue(stored.to_bytes(), adopted.to_bytes())
            with pytest.raises(LeaseLostError):
                _publish(publisher, staged, manifest)
        catalogue = publisher.catalogue()
        assert dict(catalogue.versions) == {}
        assert catalogue.generations[staged.generation].token == "another"

    @pytest.mark.parametrize("stop", ["begun", "items", "users", "sealed"])
    async def test_an_interrupted_export_is_resumed(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader, stop: str
    ) -> None:
        sample = make_sample()
        generation = self._interrupt(publisher, sample, stop, KeyboardInterrupt())
        assert dict(publisher.catalogue().versions) == {}
        storage, _ = place.open_pair()
        second = Publisher(storage)
        with second.stage(sample.spec, max_versions=5, resume=True) as staged:
            assert staged.resumed
            assert staged.generation == generation
            _publish(second, staged, write_sample(staged, sample))
        second.close()
        manifest = await current_manifest(reader, "v1")
        await reader.verify(manifest, lambda rows: None)
        await assert_serves(reader, manifest, sample)
        again = structs.replace(sample.spec, version="whole")
        publish_sample(publisher, replace(sample, spec=again))
        assert manifest.totals == (await current_manifest(reader, "whole")).totals

    async def test_only_the_same_bundle_is_resumed(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        generation = self._interrupt(publisher, make_sample(), "users", KeyboardInterrupt())
        other = make_sample("v1", 1)
        with publisher.stage(other.spec, max_versions=5, resume=True) as staged:
            assert not staged.resumed
            assert staged.generation != generation
            assert not place.data_of(generation)
            _publish(publisher, staged, write_sample(staged, other))

    async def test_without_resume_an_interrupted_export_is_swept(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        generation = self._interrupt(publisher, make_sample(), "users", KeyboardInterrupt())
        published = publish_sample(publisher, make_sample())
        assert published.generation != generation
        assert not place.data_of(generation)

    async def test_an_export_survives_a_store_that_went_away(
        self, publisher: Publisher, place: StorePlace
    ) -> None:
        sample = make_sample()
        gone = StoreUnavailableError("here", "gone")
        generation = self._interrupt(publisher, sample, "sealed", gone)
        assert place.data_of(generation)
        with publisher.stage(sample.spec, max_versions=5, resume=True) as resumed:
            assert resumed.generation == generation
            _publish(publisher, resumed, write_sample(resumed, sample))

    # ---- the catalogue

    async def test_swapping_needs_the_catalogue_that_is_there(self, storage: Storage) -> None:
        first, same_revision, second = (
            Catalogue(revision=revision, counter=counter).to_bytes()
            for revision, counter in ((1, 4), (1, 5), (2, 4))
        )
        assert not storage.swap_catalogue(first, second)
        assert storage.swap_catalogue(None, first)
        assert storage.read_catalogue() == first
        assert not storage.swap_catalogue(None, first)
        assert not storage.swap_catalogue(same_revision, second)
        assert storage.swap_catalogue(first, second)
        assert storage.read_catalogue() == second
        assert not storage.swap_catalogue(first, None)
        assert storage.swap_catalogue(second, None)
        assert storage.read_catalogue() is None

    async def test_no_change_is_lost_between_concurrent_writers(self, place: StorePlace) -> None:
        names = [f"t{k}" for k in range(4)]
        failures: list[BaseException] = []

        def pin_many(name: str) -> None:
            storage, _ = place.open_pair()
            publisher = Publisher(storage)
            try:
                publish_sample(publisher, small_sample(name))
                for k in range(9):
                    publisher.set_pinned(name, pinned=k % 2 == 0)
            except BaseException as exc:  # noqa: BLE001 - shown by the main thread
                failures.append(exc)
            finally:
                publisher.close()

        threads = [threading.Thread(target=pin_many, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        storage, reader = place.open_pair()
        catalogue = Publisher(storage).catalogue()
        assert sorted(catalogue.versions) == names
        assert all(entry.pinned for entry in catalogue.versions.values())
        assert catalogue.revision == 4 * (1 + 1 + 9)
        await reader.close()
        storage.close()

    async def test_a_catalogue_that_is_none_is_lost_not_empty(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        publish_sample(publisher, make_sample())
        place.set_catalogue(b"{]")
        with pytest.raises(CatalogueLostError):
            await reader.catalogue()
        with pytest.raises(CatalogueLostError):
            publisher.catalogue()
        place.set_catalogue(None)
        assert await reader.catalogue() is None

    # ---- damage

    async def test_a_missing_piece_of_users_is_damage_not_unknown_users(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        generation = publish_sample(publisher, sample).generation
        manifest = await reader.manifest(generation)
        place.lose_user(generation, int(sample.users.ids[0]))
        with pytest.raises(GenerationCorruptError, match=generation):
            await reader.fetch_users(manifest, sample.users.ids[:1])
        with pytest.raises(GenerationCorruptError, match=generation):
            await reader.verify(manifest, lambda rows: None)

    async def test_a_missing_piece_of_items_is_damage_not_unknown_items(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        sample = make_sample()
        generation = publish_sample(publisher, sample).generation
        manifest = await reader.manifest(generation)
        place.lose_item(generation, int(sample.items.ids[0]))
        with pytest.raises(GenerationCorruptError, match=generation):
            await reader.items_of(manifest, sample.items.ids[:1])
        with pytest.raises(GenerationCorruptError, match=generation):
            await reader.item_table(manifest, MEMORY_BYTES)
        with pytest.raises(GenerationCorruptError, match=generation):
            await reader.verify(manifest, lambda rows: None)

    async def test_a_missing_manifest_is_damage(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        generation = publish_sample(publisher, make_sample()).generation
        place.lose_manifest(generation)
        with pytest.raises(GenerationCorruptError, match=generation):
            await reader.manifest(generation)

    @pytest.mark.parametrize("kind", ["user", "item"])
    async def test_verify_finds_a_flipped_bit(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader, kind: str
    ) -> None:
        sample = make_sample()
        generation = publish_sample(publisher, sample).generation
        manifest = await reader.manifest(generation)
        if kind == "user":
            place.flip_user_byte(generation, int(sample.users.ids[700]))
        else:
            place.flip_item_byte(generation, int(sample.items.ids[1700]))
        with pytest.raises(GenerationCorruptError, match=generation):
            await reader.verify(manifest, lambda rows: None)

    async def test_a_deleted_generation_is_not_found(
        self, publisher: Publisher, place: StorePlace
    ) -> None:
        sample = make_sample()
        generation = publish_sample(publisher, sample).generation
        _, reader = place.open_pair()
        manifest = await reader.manifest(generation)
        publisher.delete("v1", 0.0)
        publisher.delete_retired(wait=True)
        with pytest.raises(GenerationNotFoundError):
            await reader.fetch_users(manifest, sample.users.ids[:3])
        with pytest.raises(GenerationNotFoundError):
            await reader.items_of(manifest, sample.items.ids[:3])
        with pytest.raises(GenerationNotFoundError):
            await reader.verify(manifest, lambda rows: None)
        await reader.close()

    async def test_closing_a_table_twice_is_harmless(
        self, publisher: Publisher, reader: KnowledgeReader
    ) -> None:
        publish_sample(publisher, make_sample())
        table = await reader.item_table(await current_manifest(reader, "v1"), 0)
        assert table.size_bytes > 2300 * 12
        table.close()
        table.close()

    # ---- helpers

    def _interrupt(
        self, publisher: Publisher, sample: Sample, stop: str, error: BaseException
    ) -> str:
        """Stage a sample and fail somewhere; return the generation that was staged."""
        generation = ""
        try:
            with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
                generation = staged.generation
                if stop in ("items", "users"):
                    for items in item_slices(sample.items):
                        staged.sink.write_items(items)
                if stop == "users":
                    staged.sink.write_users(next(user_slices(sample.users)))
                if stop == "sealed":
                    write_sample(staged, sample)
                raise error
        except type(error) as caught:
            assert caught is error  # noqa: PT017 - whichever error the test is about
        return generation


def _publish(publisher: Publisher, staged: StagedGeneration, manifest: GenerationManifest) -> None:
    publisher.publish(staged, manifest, Retention(grace_seconds=0.0))


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
    found = manifest.records.unpack(sample.users.ids, users)
    assert (found.k_u == expected).all()
    return value
