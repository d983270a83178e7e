"""Small generations to write and to compare with: ids of every kind, seeded vectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from gkc.arrays import I64
from gkc.store import (
    Catalogue,
    ElementType,
    GenerationManifest,
    GenerationSpec,
    ItemBlock,
    ItemTable,
    KnowledgeReader,
    Published,
    Publisher,
    Retention,
    StagedGeneration,
    UserBlock,
    encode_vectors,
    hash_ids,
)

EXTREME_IDS = (0, 1, -1, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63))
BLOCK_ROWS = 400
MEMORY_BYTES = 1 << 30


@dataclass(frozen=True)
class Sample:
    """One generation's worth of data, in the order it is written in."""

    spec: GenerationSpec
    users: UserBlock
    items: ItemBlock

    def records(self, generation: str) -> list[bytes]:
        """Return the users' records as they must be stored."""
        return self.spec.records(generation).pack(self.users)


def make_ids(count: int, seed: int) -> I64:
    """Return distinct ids in the order of their hashes, the extreme ones among them if they fit."""
    rng = np.random.default_rng(seed)
    extreme = EXTREME_IDS if count >= len(EXTREME_IDS) else ()
    ids = set(extreme)
    while len(ids) < count:
        ids.add(int(rng.integers(-(2**63), 2**63 - 1, dtype=np.int64)))
    array = np.array(sorted(ids), dtype=np.int64)
    return array[np.argsort(hash_ids(array))]


def make_sample(
    version: str = "v1",
    seed: int = 0,
    *,
    element_type: ElementType = "f16",
    users: int = 1200,
    items: int = 2300,
    dim: int = 6,
    category_dim: int = 4,
    value: float | None = None,
) -> Sample:
    """Make a generation; all its vectors hold ``value``, if that is given."""
    rng = np.random.default_rng(seed)

    def vectors(count: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        drawn = rng.standard_normal((count, width), dtype=np.float32)
        if value is not None:
            drawn[:] = value
        return encode_vectors(drawn, element_type)

    pairs = rng.integers(0, 4, users)
    offsets = np.concatenate([[0], np.cumsum(pairs)]).astype(np.int64)
    # Ascending within a user: 0, 7, 14.
    categories = 7 * (np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], pairs))
    user_block = UserBlock(
        ids=make_ids(users, seed + 1),
        k_u=vectors(users, dim),
        pair_offsets=offsets,
        categories=categories,
        k_uc=vectors(len(categories), category_dim),
    )
    has_category = rng.random(items) < 0.8
    item_block = ItemBlock(
        ids=make_ids(items, seed + 2),
        k_i=vectors(items, dim),
        categories=np.where(has_category, rng.integers(-9, 9, items), 0),
        has_category=has_category,
    )
    spec = GenerationSpec(
        version=version,
        element_type=element_type,
        dim=dim,
        category_dim=category_dim,
        users=users,
        items=items,
        user_categories=len(categories),
        bundle=f"bundle-{seed}" if value is None else f"{value:g}",
        fingerprint=f"fingerprint-{seed}",
    )
    return Sample(spec, user_block, item_block)


def small_sample(version: str, seed: int = 0) -> Sample:
    """Make a generation where its contents do not matter."""
    return make_sample(version, seed, users=20, items=20)


def item_slices(items: ItemBlock, start: int = 0) -> Iterator[ItemBlock]:
    """Cut items into blocks, from the row ``start`` on."""
    for row in range(start, len(items.ids), BLOCK_ROWS):
        yield items.take(slice(row, row + BLOCK_ROWS))


def user_slices(users: UserBlock, start: int = 0) -> Iterator[UserBlock]:
    """Cut users and their pairs into blocks, from the row ``start`` on."""
    for row in range(start, len(users.ids), BLOCK_ROWS):
        yield users.span(row, min(row + BLOCK_ROWS, len(users.ids)))


def stage(
    publisher: Publisher, spec: GenerationSpec, *, resume: bool = False
) -> AbstractContextManager[StagedGeneration]:
    """Stage a generation of a version beside which four others may be served."""
    return publisher.stage(spec, max_versions=5, resume=resume)


def write_sample(staged: StagedGeneration, sample: Sample) -> GenerationManifest:
    """Write and seal a sample, going on where an interrupted writer stopped."""
    written = staged.sink.written()
    for items in item_slices(sample.items, written.items):
        staged.sink.write_items(items)
    for users in user_slices(sample.users, written.users):
        staged.sink.write_users(users)
    return staged.sink.seal()


def publish_staged(
    publisher: Publisher, staged: StagedGeneration, manifest: GenerationManifest
) -> None:
    """Publish a sealed sample without a grace period."""
    publisher.publish(staged, manifest, Retention(grace_seconds=0.0))


def interrupt_export(publisher: Publisher, sample: Sample, stop: str, error: BaseException) -> str:
    """Stage a sample and fail somewhere; return the generation that was staged.

    Parameters
    ----------
    publisher : Publisher
    sample : Sample
    stop : {"begun", "items", "users", "sealed"}
        After what: nothing, all items, these and a slice of users, or the seal.
    error : BaseException
        What ends the export.
    """
    generation = ""
    try:
        with stage(publisher, sample.spec) as staged:
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


def publish_sample(
    publisher: Publisher,
    sample: Sample,
    *,
    max_versions: int = 5,
    keep_previous: int = 1,
    pin: bool = False,
) -> Published:
    """Export a sample as the exporter does, without a grace period."""
    with publisher.stage(sample.spec, max_versions=max_versions, resume=False) as staged:
        manifest = write_sample(staged, sample)
        retention = Retention(max_versions, keep_previous, 0.0, pin)
        published = publisher.publish(staged, manifest, retention)
    publisher.delete_retired(wait=True)
    return published


async def catalogue_of(reader: KnowledgeReader) -> Catalogue:
    """Return the catalogue of a store that has one."""
    catalogue = await reader.catalogue()
    assert catalogue is not None
    return catalogue


async def current_manifest(reader: KnowledgeReader, version: str) -> GenerationManifest:
    """Return the manifest of what a version serves now."""
    return await reader.manifest((await catalogue_of(reader)).version(version).current)


async def item_tables(
    reader: KnowledgeReader, manifest: GenerationManifest, items: I64
) -> AsyncIterator[ItemTable]:
    """Give some items by every way of reading them: as a table of a few, and in that of all."""
    for table in (
        await reader.items_of(manifest, items),
        await reader.item_table(manifest, MEMORY_BYTES),
    ):
        yield table
        table.close()


async def assert_serves(
    reader: KnowledgeReader, manifest: GenerationManifest, sample: Sample
) -> None:
    """Compare everything that a generation serves, by every way of reading it, to a sample."""
    assert manifest.spec == sample.spec
    records = await reader.fetch_users(manifest, sample.users.ids)
    expected = sample.records(manifest.generation)
    assert [None if r is None else bytes(r) for r in records] == expected
    async for table in item_tables(reader, manifest, sample.items.ids):
        rows = await asyncio.to_thread(table.rows_of, sample.items.ids)
        assert (rows >= 0).all()
        assert_same_items(table.take(rows), sample.items)


def assert_same_items(stored: ItemBlock, expected: ItemBlock) -> None:
    """Compare items bit for bit."""
    for column in ("ids", "k_i", "categories", "has_category"):
        np.testing.assert_array_equal(getattr(stored, column), getattr(expected, column))
