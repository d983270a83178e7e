"""What a store holds, read back: compared with what was written, or with what the models give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from exporter.errors import VerificationError
from exporter.features import Values
from exporter.inputs import (
    ItemBatch,
    Prepared,
    UserBatch,
    default_vectors,
    items_at,
    pair_offsets,
    users_at,
)
from exporter.manifest import MODEL_KINDS, TABLE_KINDS, ModelKind
from gkc.arrays import F32, I64, U8, Bools
from gkc.errors import GenerationCorruptError, LayoutError
from gkc.store import (
    Defaults,
    GenerationManifest,
    GenerationSpec,
    ItemBlock,
    KnowledgeReader,
    UserBlock,
    decode_vectors,
    open_reader,
)
from gkc.strings import Ids, StringIds

_READ_TIMEOUT_MS: Final = 30_000
_USERS_AT_ONCE: Final = 64
_SAMPLE_ROWS: Final = 1000
_SAMPLE_BYTES: Final = 16_000_000
_SEED: Final = 20_211_220
_RTOL: Final = 1e-5
_ATOL: Final = 1e-6


class StorePlace(NamedTuple):
    """Where a store is, and where this host notes what it found whole."""

    url: str
    namespace: str
    mirror_dir: Path | None = None


class Sample:
    """Evenly spaced rows of what passes by.

    Rows come in the order of their hashes, so evenly spaced ones are an unbiased choice, and the
    same one for the same ids.

    Parameters
    ----------
    spec : GenerationSpec
        Says how many rows will pass; bounds the sample in rows and bytes.
    """

    def __init__(self, spec: GenerationSpec) -> None:
        self.items: list[ItemBlock] = []
        self.users: list[UserBlock] = []
        self._item_step = _step(spec.items, spec.vector_stride)
        self._user_step = _step(spec.users, spec.mean_record_bytes)
        self._items_seen = 0
        self._users_seen = 0

    def see_items(self, block: ItemBlock) -> None:
        """Keep some of the items that were written."""
        at = _chosen(self._items_seen, len(block.ids), self._item_step)
        self._items_seen += len(block.ids)
        if len(at):
            self.items.append(block.take(at))

    def see_users(self, block: UserBlock) -> None:
        """Keep some of the users that were written, with all their pairs."""
        at = _chosen(self._users_seen, len(block.ids), self._user_step)
        self._users_seen += len(block.ids)
        self.users.extend(user_at(block, int(k)) for k in at)


def user_at(block: UserBlock, k: int) -> UserBlock:
    """Copy one user out of a block."""
    user = block.span(k, k + 1)
    return UserBlock(
        user.ids.copy(),
        user.k_u.copy(),
        user.pair_offsets,
        user.categories.copy(),
        user.k_uc.copy(),
        user.names,
    )


def _step(rows: int, row_bytes: float) -> int:
    kept = max(1.0, min(_SAMPLE_ROWS, _SAMPLE_BYTES / max(row_bytes, 1.0)))
    return max(1, int(rows / kept))


def _chosen(seen: int, rows: int, step: int) -> I64:
    return np.arange(-seen % step, rows, step, dtype=np.int64)


async def verify_generation(
    place: StorePlace,
    manifest: GenerationManifest,
    sample: Sample,
    progress: Callable[[int], None],
) -> None:
    """Re-read all counts, checksums and markers, and compare a sample of values bit for bit.

    Parameters
    ----------
    place : StorePlace
        Where the generation lies.
    manifest : GenerationManifest
        As sealed.
    sample : Sample
        Of what was written.
    progress : callable
        Is given the rows re-read.

    Raises
    ------
    GenerationCorruptError
        If the store finds its own data damaged.
    VerificationError
        If it gives back other values than were written.
    """
    async with _reading(place) as reader:
        if await reader.manifest(manifest.generation) != manifest:
            raise VerificationError(manifest.generation, "its manifest is not the one sealed")
        await reader.verify(manifest, progress)
        for block in sample.items:
            await _verify_items(reader, manifest, block)
    for start in range(0, len(sample.users), _USERS_AT_ONCE):
        # A system may map 2 MiB of a file for each record looked at: let go of them in between.
        async with _reading(place) as reader:
            await _verify_users(reader, manifest, sample.users[start : start + _USERS_AT_ONCE])


async def _verify_items(
    reader: KnowledgeReader, manifest: GenerationManifest, written: ItemBlock
) -> None:
    items = written.id_column
    table = await reader.items_of(manifest, items)
    rows = table.rows_of(items)
    same = rows >= 0
    if same.all():
        stored = table.take(rows)
        same = (stored.k_i == written.k_i).all(axis=1) & _same_categories(stored, written)
    if not same.all():
        item = shown_ids(written)[int(np.argmin(same))]
        raise VerificationError(manifest.generation, f"item {item} reads back otherwise")


async def _verify_users(
    reader: KnowledgeReader, manifest: GenerationManifest, written: list[UserBlock]
) -> None:
    ids = id_column(
        np.concatenate([u.ids for u in written]),
        [name for u in written for name in u.names or ()] or None,
    )
    records = await reader.fetch_users(manifest, ids)
    for user, record in zip(written, records, strict=True):
        if record is None or not _same_user(user, _unpacked(manifest, user.id_column, [record])):
            raise VerificationError(
                manifest.generation, f"user {shown_ids(user)[0]} reads back otherwise"
            )


def id_column(ids: I64, names: list[bytes] | None) -> Ids:
    """Return ids, or, where there are names, these, as readers are asked for them."""
    return ids if names is None else StringIds.of(names)


def shown_ids(rows: ItemBlock | UserBlock | ItemBatch | UserBatch) -> list[str]:
    """Return ids for messages."""
    if rows.names is None:
        return [str(id_) for id_ in rows.ids.tolist()]
    return [repr(name.decode()) for name in rows.names]


def _same_user(written: UserBlock, stored: UserBlock) -> bool:
    return (
        np.array_equal(written.k_u, stored.k_u)
        and np.array_equal(written.categories, stored.categories)
        and np.array_equal(written.k_uc, stored.k_uc)
    )


def _same_categories(stored: ItemBlock, expected: ItemBlock | ItemBatch) -> Bools:
    same: Bools = stored.has_category == expected.has_category
    same &= ~expected.has_category | (stored.categories == expected.categories)
    return same


def _unpacked(
    manifest: GenerationManifest, ids: Ids, records: Sequence[bytes | memoryview | None]
) -> UserBlock:
    try:
        return manifest.records.unpack(ids, records)
    except LayoutError as exc:
        raise GenerationCorruptError(manifest.generation, str(exc)) from exc


@asynccontextmanager
async def _reading(place: StorePlace) -> AsyncIterator[KnowledgeReader]:
    """Open a store for reading, with the patience of a batch job, and close it again."""
    reader = open_reader(
        place.url,
        place.namespace,
        mirror_dir=place.mirror_dir,
        timeout_ms=_READ_TIMEOUT_MS,
    )
    try:
        yield reader
    finally:
        await reader.close()


async def compare_with_models(
    place: StorePlace, generation: str, prepared: Prepared
) -> dict[ModelKind, int]:
    """Recompute a sample of a generation with a bundle's models, and compare.

    A stored value may differ by the rounding of its storage type, and beyond it by a relative 1e-5
    and an absolute 1e-6, which is what another batch size can change in a float32 sum.

    Returns
    -------
    dict of model kind to int
        How many vectors were compared.

    Raises
    ------
    VerificationError
        At the first row that is missing or differs.
    """
    async with _reading(place) as reader:
        manifest = await reader.manifest(generation)
        _compare_sizes(manifest, prepared)
        _compare_defaults(manifest, default_vectors(prepared, manifest.spec.element_type))
        comparison = _Comparison(reader, manifest, prepared)
        for batch in _sampled_items(prepared):
            await comparison.items(batch)
        for users in _sampled_users(prepared):
            await comparison.users(users)
    return comparison.counted


def _compare_sizes(manifest: GenerationManifest, prepared: Prepared) -> None:
    bundle = prepared.bundle.manifest
    types = prepared.id_types
    sizes: dict[str, int | str] = {
        "dim": bundle.dim,
        "category_dim": bundle.category_dim,
        "user_id_type": types.user,
        "item_id_type": types.item,
        "category_id_type": types.category,
    }
    sizes |= {kind: prepared.rows(kind) for kind in TABLE_KINDS}
    for name, of_bundle in sizes.items():
        stored = getattr(manifest.spec, name)
        if stored != of_bundle:
            raise VerificationError(
                manifest.generation, f"has {name} {stored}, but the bundle {of_bundle}"
            )


def _compare_defaults(manifest: GenerationManifest, expected: Defaults) -> None:
    spec = manifest.spec
    for kind in MODEL_KINDS:
        stored, recomputed = getattr(spec.defaults, kind), getattr(expected, kind)
        if (stored is None) != (recomputed is None):
            raise VerificationError(
                manifest.generation, f"its default for {kind} is not the bundle's"
            )
        if stored is None:
            continue
        width = spec.category_dim if kind == "user_category" else spec.dim
        values, truth = (
            decode_vectors(np.frombuffer(b, np.uint8)[np.newaxis], spec.element_type, width)
            for b in (stored, recomputed)
        )
        # Both are rounded, so they may be a whole step apart.
        if not _close(values, truth, 2 * rounding(truth, spec.element_type)).all():
            raise VerificationError(
                manifest.generation, f"its default for {kind} is not what the model gives"
            )


def _close(values: F32, truth: F32, rounded: F32) -> Bools:
    close: Bools = np.abs(values - truth) <= rounded + _ATOL + _RTOL * np.abs(truth)
    return close


def rounding(vectors: F32, element_type: str) -> F32:
    """Return the most that storing may change each value, shape (n, width), float32."""
    size = np.abs(vectors)
    if element_type == "f16":
        return size * np.float32(2**-11) + np.float32(2**-25)
    if element_type == "int8":
        largest = size.max(axis=1, keepdims=True, initial=np.float32(0))
        return np.broadcast_to(largest * np.float32(0.5 / 127), size.shape)
    return np.zeros_like(size)


class _Comparison:
    """Recomputes batches and compares them with the store."""

    def __init__(
        self, reader: KnowledgeReader, manifest: GenerationManifest, prepared: Prepared
    ) -> None:
        self._reader = reader
        self._manifest = manifest
        self._prepared = prepared
        self.counted: dict[ModelKind, int] = dict.fromkeys(MODEL_KINDS, 0)

    async def items(self, batch: ItemBatch) -> None:
        ids, shown = id_column(batch.ids, batch.names), shown_ids(batch)
        table = await self._reader.items_of(self._manifest, ids)
        if table.dictionary() != self._prepared.categories:
            raise VerificationError(
                self._manifest.generation, "its categories are not those of the bundle"
            )
        rows = table.rows_of(ids)
        if (rows < 0).any():
            at = int(np.argmin(rows))
            raise self._error("item", batch.rows[at], f"item {shown[at]} is missing")
        stored = table.take(rows)
        same = _same_categories(stored, batch)
        if not same.all():
            at = int(np.argmin(same))
            raise self._error("item", batch.rows[at], f"item {shown[at]} has another category")
        names = [f"item {item}" for item in shown]
        self._compare("item", batch.inputs, batch.rows, stored.k_i, names)

    async def users(self, batch: UserBatch) -> None:
        ids, shown = id_column(batch.ids, batch.names), shown_ids(batch)
        records = await self._reader.fetch_users(self._manifest, ids)
        if None in records:
            at = list(records).index(None)
            raise self._error("user", batch.rows[at], f"user {shown[at]} is missing")
        stored = _unpacked(self._manifest, ids, records)
        self._compare_pairs_there(batch, stored)
        names = [f"user {user}" for user in shown]
        self._compare("user", batch.user_inputs, batch.rows, stored.k_u, names)
        if "user_category" in self._prepared.models:
            self._compare_pairs(batch, stored)

    def _compare_pairs(self, batch: UserBatch, stored: UserBlock) -> None:
        owners = np.repeat(shown_ids(batch), np.diff(batch.pair_offsets))
        shown = self._prepared.tables["user_categories"].category_shown
        names = [
            f"user {u}, category {shown(c)}"
            for u, c in zip(owners, batch.categories.tolist(), strict=True)
        ]
        self._compare("user_category", batch.pair_inputs, batch.pair_rows, stored.k_uc, names)

    def _compare_pairs_there(self, batch: UserBatch, stored: UserBlock) -> None:
        for k, (start, end) in enumerate(pairwise(batch.pair_offsets)):
            mine = slice(stored.pair_offsets[k], stored.pair_offsets[k + 1])
            if not np.array_equal(stored.categories[mine], batch.categories[start:end]):
                user = shown_ids(batch)[k]
                raise self._error("user", batch.rows[k], f"user {user} has other categories")

    def _compare(
        self,
        kind: ModelKind,
        inputs: Mapping[str, Values],
        rows: I64,
        stored: U8,
        names: list[str],
    ) -> None:
        model, element_type = self._prepared.models[kind], self._manifest.spec.element_type
        truth = model.infer(inputs, rows)
        values = decode_vectors(stored, element_type, truth.shape[1])
        close = _close(values, truth, rounding(truth, element_type))
        if not close.all():
            row, column = (int(k) for k in np.argwhere(~close)[0])
            raise self._error(
                kind,
                rows[row],
                f"{names[row]} has {values[row, column]:.8g} in place {column}, "
                f"but {model.file} gives {truth[row, column]:.8g}",
            )
        self.counted[kind] += len(truth)

    def _error(self, kind: ModelKind, row: int, what: str) -> VerificationError:
        file, place = self._prepared.models[kind].table.locate(int(row))
        return VerificationError(
            self._manifest.generation, f"{what} ({file}, row {place}, counted from 0)"
        )


def _sampled_items(prepared: Prepared) -> Iterator[ItemBatch]:
    table = prepared.tables["items"]
    for partition, places in _choose(table.sizes, min(_SAMPLE_ROWS, table.source.rows)):
        yield items_at(prepared, table.load(partition), places)


def _sampled_users(prepared: Prepared) -> Iterator[UserBatch]:
    """Yield users with all their pairs, about a thousand of whichever comes in greater number."""
    users, pairs = prepared.rows("users"), prepared.rows("user_categories")
    rows = min(users, _SAMPLE_ROWS, max(1, int(_SAMPLE_ROWS * users / max(pairs, 1))))
    table = prepared.tables["users"]
    for partition, places in _choose(table.sizes, rows):
        of_users, of_pairs = table.load(partition), prepared.pairs(partition)
        offsets = pair_offsets(of_users, of_pairs)
        yield users_at(prepared, of_users, of_pairs, offsets, places)


def _choose(sizes: I64, rows: int) -> Iterator[tuple[int, I64]]:
    """Choose rows at random, the same ones each time; yield them by partition."""
    chosen = np.random.default_rng(_SEED).choice(int(sizes.sum()), rows, replace=False)
    ends = np.cumsum(sizes)
    partitions = np.searchsorted(ends, chosen, side="right")
    for partition in np.unique(partitions):
        places = chosen[partitions == partition] - (ends[partition] - sizes[partition])
        yield int(partition), np.sort(places).astype(np.int64)
