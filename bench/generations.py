"""Generations of made-up vectors, written into a store as the exporter does, without models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from gkc.store import (
    GenerationManifest,
    GenerationSpec,
    ItemBlock,
    UserBlock,
    encode_vectors,
    hash_ids,
)
from gkc.store.protocol import Storage

Counts = npt.NDArray[np.int64]
BATCH_ROWS = 4096
ITEM_ROW_BYTES = 17
"""Of a stored item besides its vector: id, category, whether it has one."""
ID_BYTES = 8


def users_spec(dim: int, pairs: Counts) -> GenerationSpec:
    """Describe users with these numbers of pairs, shape (users,), f16 vectors ``dim`` wide."""
    return _spec(dim, users=len(pairs), pairs=int(pairs.sum()))


def items_spec(dim: int, items: int) -> GenerationSpec:
    """Describe items, f16 vectors ``dim`` wide."""
    return _spec(dim, items=items)


def blocks_of(
    spec: GenerationSpec, pairs: Counts | None
) -> Iterator[UserBlock] | Iterator[ItemBlock]:
    """Make all users of a generation, with these numbers of pairs, or else all its items."""
    return item_blocks(spec) if pairs is None else user_blocks(spec, pairs)


def user_blocks(spec: GenerationSpec, pairs: Counts) -> Iterator[UserBlock]:
    """Make all users in stored order; the k-th has ``pairs[k]`` categories from 0 on."""
    rng = np.random.default_rng(1)
    done = 0
    for ids in _ids(spec.users):
        counts = pairs[done : done + len(ids)]
        done += len(ids)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        yield UserBlock(
            ids=ids,
            k_u=encode_vectors(_normal(rng, len(ids), spec.dim), "f16"),
            pair_offsets=offsets,
            categories=np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts),
            k_uc=rng.integers(0, 120, (offsets[-1], spec.category_stride), dtype=np.uint8),
        )


def item_blocks(spec: GenerationSpec) -> Iterator[ItemBlock]:
    """Make all items in stored order."""
    rng = np.random.default_rng(2)
    for ids in _ids(spec.items):
        yield ItemBlock(
            ids=ids,
            k_i=encode_vectors(_normal(rng, len(ids), spec.dim), "f16"),
            categories=rng.integers(0, 1000, len(ids)),
            has_category=np.ones(len(ids), dtype=np.bool_),
        )


def load_generation(
    storage: Storage, spec: GenerationSpec, blocks: Iterable[UserBlock | ItemBlock]
) -> GenerationManifest:
    """Write a generation and seal it; it is not published.

    Parameters
    ----------
    storage : Storage
        Where to.
    spec : GenerationSpec
        What the blocks are.
    blocks : iterable of UserBlock or ItemBlock
        All of them.

    Returns
    -------
    GenerationManifest
        Of generation ``0000000001-bench``.
    """
    lease = storage.acquire_lease(spec.version, "bench")
    sink = storage.open_sink(f"{1:010d}-bench", spec, lease, resume=False)
    for block in blocks:
        if isinstance(block, UserBlock):
            sink.write_users(block)
        else:
            sink.write_items(block)
    manifest = sink.seal()
    sink.close()
    lease.release()
    return manifest


def payload_bytes(spec: GenerationSpec) -> int:
    """Return the bytes of the vectors, ids and categories themselves."""
    pairs = spec.user_categories * (ID_BYTES + spec.category_stride)
    items = spec.items * (spec.vector_stride + ITEM_ROW_BYTES)
    return spec.users * (ID_BYTES + spec.vector_stride) + pairs + items


def _spec(dim: int, users: int = 0, items: int = 0, pairs: int = 0) -> GenerationSpec:
    return GenerationSpec(
        version="bench",
        element_type="f16",
        dim=dim,
        category_dim=dim,
        users=users,
        items=items,
        user_categories=pairs,
        bundle="bench",
        fingerprint="bench",
    )


def _normal(rng: np.random.Generator, rows: int, dim: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal((rows, dim), dtype=np.float32)


def _ids(count: int) -> Iterator[npt.NDArray[np.int64]]:
    ids = np.arange(count, dtype=np.int64)
    ids = ids[np.argsort(hash_ids(ids))]
    for start in range(0, count, BATCH_ROWS):
        yield ids[start : start + BATCH_ROWS]
