"""Read a sealed generation back from the store and compare it with what was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from exporter.errors import VerificationError
from exporter.sample import Sample
from gkc.errors import GenerationCorruptError, LayoutError
from gkc.store import (
    GenerationManifest,
    ItemBlock,
    KnowledgeReader,
    UserBlock,
    open_reader,
)

_READ_TIMEOUT_MS = 30_000
_USERS_AT_ONCE = 64


def verify_generation(
    url: str,
    namespace: str,
    manifest: GenerationManifest,
    sample: Sample,
    progress: Callable[[int], None],
) -> None:
    """Re-read all counts, checksums and markers, and compare a sample of values bit for bit.

    Parameters
    ----------
    url, namespace : str
        Where the generation lies.
    manifest : GenerationManifest
        As sealed.
    sample : Sample
        Of what was written.
    progress : callable
        Told the rows re-read.

    Raises
    ------
    GenerationCorruptError
        If the store finds its own data damaged.
    VerificationError
        If it gives back other values than were written.
    """
    asyncio.run(_verify(url, namespace, manifest, sample, progress))


async def _verify(
    url: str,
    namespace: str,
    manifest: GenerationManifest,
    sample: Sample,
    progress: Callable[[int], None],
) -> None:
    async with reading(url, namespace) as reader:
        if await reader.manifest(manifest.generation) != manifest:
            raise VerificationError(manifest.generation, "its manifest is not the one sealed")
        await reader.verify(manifest, progress)
        for block in sample.items:
            await _compare_items(reader, manifest, block)
    for start in range(0, len(sample.users), _USERS_AT_ONCE):
        # A system may map 2 MiB of a file for each record looked at: let go of them in between.
        async with reading(url, namespace) as reader:
            await _compare_users(reader, manifest, sample.users[start : start + _USERS_AT_ONCE])


@asynccontextmanager
async def reading(url: str, namespace: str) -> AsyncIterator[KnowledgeReader]:
    """Open a store for reading, with the patience of a batch job, and close it again."""
    reader = open_reader(url, namespace, timeout_ms=_READ_TIMEOUT_MS)
    try:
        yield reader
    finally:
        await reader.close()


async def _compare_items(
    reader: KnowledgeReader, manifest: GenerationManifest, block: ItemBlock
) -> None:
    table = await reader.items_of(manifest, block.ids)
    rows = table.rows_of(block.ids)
    if (rows < 0).any():
        item = block.ids[int(np.argmin(rows))]
        raise VerificationError(manifest.generation, f"item {item} reads back otherwise")
    found = table.take(rows)
    same = (
        (found.k_i == block.k_i).all(axis=1)
        & (found.has_category == block.has_category)
        & (~block.has_category | (found.categories == block.categories))
    )
    if not same.all():
        item = block.ids[int(np.argmin(same))]
        raise VerificationError(manifest.generation, f"item {item} reads back otherwise")


async def _compare_users(
    reader: KnowledgeReader, manifest: GenerationManifest, written: list[UserBlock]
) -> None:
    records = await reader.fetch_users(manifest, np.concatenate([u.ids for u in written]))
    for user, record in zip(written, records, strict=True):
        if record is None or not _same_user(user, _read_user(manifest, user, record)):
            raise VerificationError(manifest.generation, f"user {user.ids[0]} reads back otherwise")


def _read_user(
    manifest: GenerationManifest, user: UserBlock, record: bytes | memoryview
) -> UserBlock:
    """Unpack the record of one user."""
    try:
        return manifest.records.unpack(user.ids, [record])
    except LayoutError as exc:
        raise GenerationCorruptError(manifest.generation, str(exc)) from exc


def _same_user(written: UserBlock, found: UserBlock) -> bool:
    return (
        np.array_equal(written.k_u, found.k_u)
        and np.array_equal(written.categories, found.categories)
        and np.array_equal(written.k_uc, found.k_uc)
    )
