"""Small generations to write and to compare with: ids of every kind, seeded vectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from gkc.arrays import I64
from gkc.id_index import keys_of
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
from gkc.strings import Ids, IdType, StringIds

EXTREME_IDS = (0, 1, -1, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63))
EXTREME_NAMES = (b"a", b"a\0", b"\0", b"x" * 128, "\N{SNOWMAN}".encode(), "e\u0301".encode())
CATEGORIES = tuple(f"category {k:02}".encode() for k in range(24))
BLOCK_ROWS = 400
_WORD = 2**64
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


def make_names(count: int, seed: int) -> list[bytes]:
    """Return distinct strings in the stored order; extreme ones, if they fit, two of one key."""
    rng = np.random.default_rng(seed)
    names = {*EXTREME_NAMES, *twins(rng)} if count >= len(EXTREME_NAMES) + 2 else set[bytes]()
    while len(names) < count:
        names.add(f"id {rng.integers(0, 10**12)}".encode())
    keys = keys_of(StringIds.of(list(names)))
    ordered = sorted(zip(hash_ids(keys).tolist(), names, strict=True))
    return [name for _, name in ordered]


def twins(rng: np.random.Generator) -> tuple[bytes, bytes]:
    """Return two strings of 16 bytes of ASCII that have one key."""

    def state(word: bytes) -> int:
        start = 17 * 0x9E3779B97F4A7C15 % _WORD
        mixed = (start ^ int.from_bytes(word, "little")) * 0xBF58476D1CE4E5B9 % _WORD
        return mixed ^ mixed >> 32

    while True:
        first, other, second = (bytes(rng.integers(97, 123, 8, dtype=np.uint8)) for _ in range(3))
        difference = state(first) ^ state(other)
        rest = (int.from_bytes(second, "little") ^ difference).to_bytes(8, "little")
        if rest.isascii() and first != other:
            return first + second, other + rest


def make_id_column(count: int, seed: int, id_type: IdType) -> tuple[I64, list[bytes] | None]:
    """Return distinct ids in the stored order, as blocks have them: keys, and strings if any."""
    if id_type == "int64":
        return make_ids(count, seed), None
    names = make_names(count, seed)
    return keys_of(StringIds.of(names)), names


def strangers(id_type: IdType) -> Ids:
    """Return three ids that no sample has."""
    if id_type == "string":
        return StringIds.of([b"nobody", b"a\0\0", "\N{SNOWMAN} ".encode()])
    return np.array([4, 5, -6], dtype=np.int64)


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
    id_type: IdType = "int64",
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
    user_ids, user_names = make_id_column(users, seed + 1, id_type)
    user_block = UserBlock(
        ids=user_ids,
        names=user_names,
        k_u=vectors(users, dim),
        pair_offsets=offsets,
        categories=categories,
        k_uc=vectors(len(categories), category_dim),
    )
    has_category = rng.random(items) < 0.8
    item_ids, item_names = make_id_column(items, seed + 2, id_type)
    lowest = 0 if id_type == "string" else -9
    item_block = ItemBlock(
        ids=item_ids,
        names=item_names,
        k_i=vectors(items, dim),
        categories=np.where(has_category, rng.integers(lowest, 9, items), 0),
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
        user_id_type=id_type,
        item_id_type=id_type,
        category_id_type=id_type,
        user_id_bytes=sum(map(len, user_names or ())),
        item_id_bytes=sum(map(len, item_names or ())),
        categories=len(CATEGORIES) if id_type == "string" else 0,
        category_bytes=sum(map(len, CATEGORIES)) if id_type == "string" else 0,
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
    return publisher.stage(
        spec, max_versions=5, resume=resume, categories=CATEGORIES[: spec.categories]
    )


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
    categories = CATEGORIES[: sample.spec.categories]
    with publisher.stage(
        sample.spec, max_versions=max_versions, resume=False, categories=categories
    ) as staged:
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
    reader: KnowledgeReader, manifest: GenerationManifest, items: Ids
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
    records = await reader.fetch_users(manifest, sample.users.id_column)
    expected = sample.records(manifest.generation)
    assert [None if r is None else bytes(r) for r in records] == expected
    items = sample.items.id_column
    async for table in item_tables(reader, manifest, items):
        rows = await asyncio.to_thread(table.rows_of, items)
        assert (rows >= 0).all()
        assert table.dictionary() == list(CATEGORIES[: sample.spec.categories])
        assert_same_items(table.take(rows), sample.items)


def assert_same_items(stored: ItemBlock, expected: ItemBlock) -> None:
    """Compare items bit for bit."""
    assert stored.names == expected.names
    for column in ("ids", "k_i", "categories", "has_category"):
        np.testing.assert_array_equal(getattr(stored, column), getattr(expected, column))
