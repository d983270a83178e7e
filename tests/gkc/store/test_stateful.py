"""An embedded store beside a plain dict: after any sequence of commands, both hold the same."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gkc.errors import (
    GenerationNotFoundError,
    NoPreviousGenerationError,
    VersionLimitError,
    VersionNotFoundError,
)
from gkc.store import Catalogue, Publisher, Retention
from gkc.store.backends.file import FileReader, FileStorage
from gkc.testing.samples import (
    Sample,
    assert_serves,
    item_slices,
    make_sample,
    publish_sample,
    write_sample,
)

VERSIONS = st.sampled_from(["a", "b", "c", "d"])


@dataclass
class Model:
    """What a version serves, as plain values; ``order`` is when its current one was published."""

    current: tuple[int, Sample]
    previous: tuple[int, Sample] | None
    pinned: bool

    @property
    def order(self) -> int:
        return self.current[0]


class StoreBesideADict(RuleBasedStateMachine):
    """Drives `Publisher` and `FileReader` on one side, and a dict of `Model` on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="gkc-stateful-"))
        self.publisher = Publisher(FileStorage(self.directory, "center"))
        self.reader = FileReader(self.directory, "center")
        self.model: dict[str, Model] = {}
        self.interrupted: dict[str, tuple[str, Sample]] = {}
        self.published = 0
        self.seed = 0

    def teardown(self) -> None:
        asyncio.run(self.reader.close())
        shutil.rmtree(self.directory)

    def next_sample(self, version: str) -> Sample:
        self.seed += 1
        return make_sample(version, self.seed, users=self.seed % 7, items=self.seed % 5, dim=2)

    def expected_evictions(self, version: str, limit: int) -> list[str] | None:
        """Return what publishing evicts, None if it is refused: the contract's rule, naively."""
        others = {v: m for v, m in self.model.items() if v != version}
        excess = len(others) + 1 - limit
        unpinned = sorted(
            (v for v in others if not others[v].pinned), key=lambda v: others[v].order
        )
        if excess > len(unpinned):
            return None
        return unpinned[: max(0, excess)]

    @rule(version=VERSIONS, limit=st.integers(1, 4), keep=st.integers(0, 1), pin=st.booleans())
    def publish(self, version: str, limit: int, keep: int, pin: bool) -> None:
        sample = self.next_sample(version)
        evicted = self.expected_evictions(version, limit)
        options = {"max_versions": limit, "keep_previous": keep}
        if evicted is None:
            with pytest.raises(VersionLimitError):
                publish_sample(self.publisher, sample, pin=pin, **options)
            self.forget_interrupted(version)
            return
        assert self.publisher.check_export(version, limit) == evicted
        done = publish_sample(self.publisher, sample, pin=pin, **options)
        assert done.evicted == evicted
        self.enter(version, sample, evicted, keep=bool(keep), pin=pin)

    def enter(
        self, version: str, sample: Sample, evicted: list[str], *, keep: bool, pin: bool
    ) -> None:
        for name in evicted:
            del self.model[name]
        self.published += 1
        old = self.model.get(version)
        self.model[version] = Model(
            (self.published, sample),
            old.current if old and keep else None,
            pin or bool(old and old.pinned),
        )
        self.forget_interrupted(version)

    def forget_interrupted(self, version: str) -> None:
        """Every writer sweeps what dead ones left, of its own version and of the others."""
        assert version
        self.interrupted.clear()

    @rule(version=VERSIONS)
    def interrupt(self, version: str) -> None:
        sample = self.next_sample(version)
        generation = ""
        try:
            with self.publisher.stage(sample.spec, max_versions=99, resume=False) as staged:
                generation = staged.generation
                for items in item_slices(sample.items):
                    staged.sink.write_items(items)
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.interrupted = {version: (generation, sample)}

    @precondition(lambda self: self.interrupted)
    @rule()
    def resume(self) -> None:
        ((version, (generation, sample)),) = self.interrupted.items()
        evicted = self.expected_evictions(version, 99)
        assert evicted == []
        with self.publisher.stage(sample.spec, max_versions=99, resume=True) as staged:
            assert staged.resumed
            assert staged.generation == generation
            self.publisher.publish(
                staged, write_sample(staged, sample), Retention(max_versions=99, grace_seconds=0.0)
            )
        self.publisher.delete_retired(wait=True)
        self.enter(version, sample, [], keep=True, pin=False)

    @rule(version=VERSIONS)
    def sweep(self, version: str) -> None:
        swept = self.publisher.sweep()
        assert all(generation in swept for generation, _ in self.interrupted.values())
        self.forget_interrupted(version)

    @rule(version=VERSIONS, pinned=st.booleans())
    def pin(self, version: str, pinned: bool) -> None:
        if version in self.model:
            self.publisher.set_pinned(version, pinned=pinned)
            self.model[version].pinned = pinned
        else:
            with pytest.raises(VersionNotFoundError):
                self.publisher.set_pinned(version, pinned=pinned)

    @rule(version=VERSIONS)
    def rollback(self, version: str) -> None:
        entry = self.model.get(version)
        if entry is None:
            with pytest.raises(VersionNotFoundError):
                self.publisher.rollback(version)
        elif entry.previous is None:
            with pytest.raises(NoPreviousGenerationError):
                self.publisher.rollback(version)
        else:
            self.publisher.rollback(version)
            entry.current, entry.previous = entry.previous, entry.current

    @rule(version=VERSIONS)
    def delete(self, version: str) -> None:
        if version in self.model:
            self.publisher.delete(version, 0.0)
            self.publisher.delete_retired(wait=True)
            del self.model[version]
        else:
            with pytest.raises(VersionNotFoundError):
                self.publisher.delete(version, 0.0)

    @invariant()
    def both_hold_the_same(self) -> None:
        asyncio.run(self.compare())

    async def compare(self) -> None:
        catalogue = await self.reader.catalogue() or Catalogue()
        newest = sorted(self.model, key=lambda v: self.model[v].order, reverse=True)
        assert catalogue.newest_first() == newest
        needed = {generation for generation, _ in self.interrupted.values()}
        for version, expected in self.model.items():
            entry = catalogue.version(version)
            assert entry.pinned == expected.pinned
            assert (entry.previous is None) == (expected.previous is None)
            for generation, held in (
                (entry.current, expected.current),
                (entry.previous, expected.previous),
            ):
                if generation is None or held is None:
                    continue
                needed.add(generation)
                manifest = await self.reader.manifest(generation)
                await assert_serves(self.reader, manifest, held[1])
        generations = self.directory / "center" / "generations"
        there = {p.name for p in generations.iterdir()} if generations.exists() else set()
        assert there == needed
        for generation in set(catalogue.generations) - needed:
            with pytest.raises(GenerationNotFoundError):
                await self.reader.manifest(generation)


StoreBesideADict.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStoreBesideADict = pytest.mark.slow(StoreBesideADict.TestCase)
