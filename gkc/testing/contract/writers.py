"""Several writers, and dead ones."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from msgspec import structs

from gkc.errors import (
    LeaseLostError,
    StoreFullError,
    StoreUnavailableError,
    VersionBusyError,
)
from gkc.store import Catalogue, KnowledgeReader, Publisher, Storage, changes
from gkc.strings import IdType
from gkc.testing.clock import clock_off
from gkc.testing.contract.store_place import StoreFixtures, StorePlace
from gkc.testing.samples import (
    assert_serves,
    current_manifest,
    interrupt_export,
    make_sample,
    publish_sample,
    publish_staged,
    small_sample,
    stage,
    write_sample,
)


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


class WriterContract(StoreFixtures):
    """Tests of writers that meet, die, or go on where another one stopped."""

    async def test_a_second_writer_of_a_version_is_refused_at_once(
        self, publisher: Publisher, second_publisher: Publisher
    ) -> None:
        sample, other = make_sample(), make_sample("v2", 1)
        with stage(publisher, sample.spec) as staged:
            manifest = write_sample(staged, sample)
            busy = pytest.raises(VersionBusyError, match="process")
            with busy, stage(second_publisher, sample.spec):
                pytest.fail("two writers of one version")
            publish_sample(second_publisher, other)  # another version may be exported meanwhile
            publish_staged(publisher, staged, manifest)
        publish_sample(second_publisher, make_sample("v1", 2))
        assert publisher.catalogue().newest_first() == ["v1", "v2"]

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_clock_an_hour_off_breaks_no_lease(
        self, publisher: Publisher, second_publisher: Publisher, hours: int
    ) -> None:
        sample = small_sample("v1")
        with stage(publisher, sample.spec) as staged:
            manifest = write_sample(staged, sample)
            with clock_off(hours):
                with pytest.raises(VersionBusyError):
                    second_publisher.check_export("v1", 5)
                assert second_publisher.sweep() == []
            publish_staged(publisher, staged, manifest)
        assert publisher.catalogue().newest_first() == ["v1"]

    @pytest.mark.parametrize("phase", ["begun", "written", "sealed"])
    async def test_a_killed_writer_leaves_nothing_visible_and_is_swept(
        self, place: StorePlace, publisher: Publisher, reader: KnowledgeReader, phase: str
    ) -> None:
        served = make_sample("v1", 3)
        publish_sample(publisher, served)
        writer = DyingWriter(place, "v1", phase)
        try:
            with pytest.raises(VersionBusyError), stage(publisher, served.spec):
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
        with stage(publisher, sample.spec) as staged:
            manifest = write_sample(staged, sample)
            stored = publisher.catalogue()
            adopted = changes.adopt(stored, staged.generation, "another", "another writer")
            assert storage.swap_catalogue(stored.to_bytes(), adopted.to_bytes())
            with pytest.raises(LeaseLostError):
                publish_staged(publisher, staged, manifest)
        catalogue = publisher.catalogue()
        assert dict(catalogue.versions) == {}
        assert catalogue.generations[staged.generation].token == "another"

    @pytest.mark.parametrize("stop", ["begun", "items", "users", "sealed"])
    async def test_an_interrupted_export_is_resumed(
        self,
        publisher: Publisher,
        second_publisher: Publisher,
        reader: KnowledgeReader,
        stop: str,
        id_type: IdType,
    ) -> None:
        sample = make_sample(id_type=id_type)
        generation = interrupt_export(publisher, sample, stop, KeyboardInterrupt())
        assert dict(publisher.catalogue().versions) == {}
        with stage(second_publisher, sample.spec, resume=True) as staged:
            assert staged.resumed
            assert staged.generation == generation
            publish_staged(second_publisher, staged, write_sample(staged, sample))
        manifest = await current_manifest(reader, "v1")
        await reader.verify(manifest, lambda rows: None)
        await assert_serves(reader, manifest, sample)
        again = structs.replace(sample.spec, version="whole")
        publish_sample(publisher, replace(sample, spec=again))
        assert manifest.totals == (await current_manifest(reader, "whole")).totals

    async def test_only_the_same_bundle_is_resumed(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        generation = interrupt_export(publisher, make_sample(), "users", KeyboardInterrupt())
        other = make_sample("v1", 1)
        with stage(publisher, other.spec, resume=True) as staged:
            assert not staged.resumed
            assert staged.generation != generation
            assert not place.data_of(generation)
            publish_staged(publisher, staged, write_sample(staged, other))

    async def test_without_resume_an_interrupted_export_is_swept(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        generation = interrupt_export(publisher, make_sample(), "users", KeyboardInterrupt())
        published = publish_sample(publisher, make_sample())
        assert published.generation != generation
        assert not place.data_of(generation)

    async def test_an_export_survives_a_store_that_went_away(
        self, publisher: Publisher, place: StorePlace
    ) -> None:
        sample = make_sample()
        gone = StoreUnavailableError("here", "gone")
        generation = interrupt_export(publisher, sample, "sealed", gone)
        assert place.data_of(generation)
        with stage(publisher, sample.spec, resume=True) as resumed:
            assert resumed.generation == generation
            publish_staged(publisher, resumed, write_sample(resumed, sample))

    async def test_a_full_store_keeps_nothing_of_an_export(
        self, publisher: Publisher, place: StorePlace
    ) -> None:
        full = StoreFullError("here", "full")
        generation = interrupt_export(publisher, make_sample(), "sealed", full)
        assert not place.data_of(generation)
        assert generation not in publisher.catalogue().generations

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

    async def test_no_change_is_lost_between_concurrent_writers(
        self, place: StorePlace, publisher: Publisher
    ) -> None:
        names = [f"t{k}" for k in range(4)]

        def pin_many(name: str) -> None:
            storage, _ = place.open_pair()
            writer = Publisher(storage)
            publish_sample(writer, small_sample(name))
            for k in range(9):
                writer.set_pinned(name, pinned=k % 2 == 0)
            writer.close()

        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(pin_many, names))
        catalogue = publisher.catalogue()
        assert sorted(catalogue.versions) == names
        assert all(entry.pinned for entry in catalogue.versions.values())
        assert catalogue.revision == 4 * (1 + 1 + 9)
