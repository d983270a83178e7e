"""Recompute a sample of what is stored with the bundle's models, and compare."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from exporter.batches import ItemBatch, UserBatch, items_at, pair_offsets, users_at
from exporter.bundle import check_digests, load_bundle
from exporter.errors import VerificationError
from exporter.manifest import ModelKind
from exporter.prepare import Prepared, prepare
from exporter.progress import PhaseProgress
from exporter.run import ExportOptions
from exporter.vectors import TABLE_OF, default_vectors, infer
from exporter.verify import reading
from gkc.arrays import F32, I64, U8
from gkc.errors import GenerationCorruptError, LayoutError
from gkc.store import (
    GenerationManifest,
    KnowledgeReader,
    UserBlock,
    decode_vectors,
    open_publisher,
)

_SAMPLE_ROWS: Final = 1000
_SEED: Final = 20_211_220
_RTOL: Final = 1e-5
_ATOL: Final = 1e-6


@dataclass(frozen=True, slots=True)
class CheckReport:
    """How much of a version was recomputed and found as stored."""

    store: str
    version: str
    generation: str
    users: int
    items: int
    user_categories: int

    def summary(self) -> dict[str, Any]:
        """Return the members that ``--json`` prints."""
        names = "version generation users items user_categories"
        return {name: getattr(self, name) for name in names.split()}

    def lines(self) -> list[str]:
        """Return what a person is told."""
        return [
            f"version {self.version}, generation {self.generation}, in {self.store} is what "
            f"the models give: recomputed {self.users:,} users, {self.items:,} items and "
            f"{self.user_categories:,} user categories"
        ]


def check_version(options: ExportOptions, progress: PhaseProgress) -> CheckReport:
    """Compare what a version serves with what a bundle's models give.

    A stored value may differ by the rounding of its storage type, and beyond it by a relative 1e-5
    and an absolute 1e-6, which is what another batch size can change in a float32 sum.

    Raises
    ------
    VerificationError
        At the first row that is missing or differs.
    GkcError
        If version, store or bundle cannot be read.
    """
    bundle = load_bundle(options.bundle)
    with closing(open_publisher(options.store, options.namespace)) as publisher:
        generation = publisher.catalogue().version(options.version).current
        shown = publisher.store
    progress.start("check", None, version=options.version, generation=generation)
    check_digests(bundle)
    with prepare(bundle, options.max_pairs_per_user, progress.advance) as prepared:
        users, items, pairs = asyncio.run(_check(options, generation, prepared))
    return CheckReport(shown, options.version, generation, users, items, pairs)


async def _check(
    options: ExportOptions, generation: str, prepared: Prepared
) -> tuple[int, int, int]:
    async with reading(options.store, options.namespace) as reader:
        manifest = await reader.manifest(generation)
        _compare_facts(manifest, prepared)
        comparison = _Comparison(reader, manifest, prepared)
        for batch in _sampled_items(prepared):
            await comparison.items(batch)
        for users in _sampled_users(prepared):
            await comparison.users(users)
    counted = comparison.counted
    return counted["user"], counted["item"], counted["user_category"]


def _compare_facts(manifest: GenerationManifest, prepared: Prepared) -> None:
    spec, bundle = manifest.spec, prepared.bundle
    found = {
        "dim": (spec.dim, bundle.dim),
        "category_dim": (spec.category_dim, bundle.category_dim),
        "users": (spec.users, prepared.tables["users"].rows),
        "items": (spec.items, prepared.tables["items"].rows),
        "user_categories": (spec.user_categories, prepared.tables["user_categories"].rows),
    }
    for name, (stored, given) in found.items():
        if stored != given:
            raise VerificationError(
                manifest.generation, f"has {name} {stored}, but the bundle {given}"
            )
    defaults = default_vectors(prepared, spec.element_type)
    for part in ("user", "item", "user_category"):
        stored, given = getattr(spec.defaults, part), getattr(defaults, part)
        if (stored is None) != (given is None):
            raise VerificationError(
                manifest.generation, f"its default for {part} is not the bundle's"
            )
        if stored is not None:
            width = spec.category_dim if part == "user_category" else spec.dim
            values = [
                decode_vectors(np.frombuffer(b, np.uint8)[np.newaxis], spec.element_type, width)
                for b in (stored, given)
            ]
            # Both are rounded, so they may be a whole step apart.
            step = 2 * rounding(values[1], spec.element_type)
            if (np.abs(values[0] - values[1]) > step + _ATOL + _RTOL * np.abs(values[1])).any():
                raise VerificationError(
                    manifest.generation, f"its default for {part} is not what the model gives"
                )


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
        self.counted: dict[ModelKind, int] = {"user": 0, "item": 0, "user_category": 0}

    async def items(self, batch: ItemBatch) -> None:
        table = await self._reader.items_of(self._manifest, batch.ids)
        rows = table.rows_of(batch.ids)
        if (rows < 0).any():
            at = int(np.argmin(rows))
            raise self._error("item", batch.rows[at], f"item {batch.ids[at]} is missing")
        found = table.take(rows)
        same = found.has_category == batch.has_category
        same &= ~batch.has_category | (found.categories == batch.categories)
        if not same.all():
            at = int(np.argmin(same))
            raise self._error("item", batch.rows[at], f"item {batch.ids[at]} has another category")
        k_i = infer(self._prepared, "item", batch.inputs, batch.rows)
        self._compare("item", k_i, found.k_i, batch.rows, [f"item {k}" for k in batch.ids])

    async def users(self, batch: UserBatch) -> None:
        records = await self._reader.fetch_users(self._manifest, batch.ids)
        if None in records:
            at = list(records).index(None)
            raise self._error("user", batch.rows[at], f"user {batch.ids[at]} is missing")
        try:
            found = self._manifest.records.unpack(batch.ids, records)
        except LayoutError as exc:
            raise GenerationCorruptError(self._manifest.generation, str(exc)) from exc
        self._compare_pairs_there(batch, found)
        k_u = infer(self._prepared, "user", batch.user_inputs, batch.rows)
        self._compare("user", k_u, found.k_u, batch.rows, [f"user {k}" for k in batch.ids])
        owners = np.repeat(batch.ids, np.diff(batch.pair_offsets))
        names = [f"user {u}, category {c}" for u, c in zip(owners, batch.categories, strict=True)]
        k_uc = infer(self._prepared, "user_category", batch.pair_inputs, batch.pair_rows)
        self._compare("user_category", k_uc, found.k_uc, batch.pair_rows, names)

    def _compare_pairs_there(self, batch: UserBatch, found: UserBlock) -> None:
        for k, (start, end) in enumerate(
            zip(batch.pair_offsets, batch.pair_offsets[1:], strict=False)
        ):
            mine = slice(found.pair_offsets[k], found.pair_offsets[k + 1])
            if not np.array_equal(found.categories[mine], batch.categories[start:end]):
                raise self._error(
                    "user", batch.rows[k], f"user {batch.ids[k]} has other categories"
                )

    def _compare(
        self, kind: ModelKind, vectors: F32, stored: U8, rows: I64, names: list[str]
    ) -> None:
        element_type = self._manifest.spec.element_type
        values = decode_vectors(stored, element_type, vectors.shape[1])
        allowed = rounding(vectors, element_type) + _ATOL + _RTOL * np.abs(vectors)
        wrong = ~(np.abs(values - vectors) <= allowed)
        if wrong.any():
            row, column = (int(k) for k in np.argwhere(wrong)[0])
            model = self._prepared.models[kind].file
            raise self._error(
                kind,
                rows[row],
                f"{names[row]} has {values[row, column]:.8g} in place {column}, "
                f"but {model} gives {vectors[row, column]:.8g}",
            )
        self.counted[kind] += len(vectors)

    def _error(self, kind: ModelKind, row: int, what: str) -> VerificationError:
        file, place = self._prepared.tables[TABLE_OF[kind]].locate(int(row))
        return VerificationError(
            self._manifest.generation, f"{what} ({file}, row {place}, counted from 0)"
        )


def _sampled_items(prepared: Prepared) -> Iterator[ItemBatch]:
    sizes = prepared.spills["items"].rows
    for partition, places in _choose(sizes, min(_SAMPLE_ROWS, int(sizes.sum()))):
        yield items_at(prepared, prepared.load("items", partition), places)


def _sampled_users(prepared: Prepared) -> Iterator[UserBatch]:
    """Yield users with all their pairs, about a thousand of whichever comes in greater number."""
    sizes = prepared.spills["users"].rows
    users, pairs = int(sizes.sum()), prepared.tables["user_categories"].rows
    wanted = min(users, _SAMPLE_ROWS, max(1, int(_SAMPLE_ROWS * users / max(pairs, 1))))
    for partition, places in _choose(sizes, wanted):
        loaded = prepared.load("users", partition)
        owned = prepared.load("user_categories", partition)
        yield users_at(prepared, loaded, owned, pair_offsets(loaded, owned), places)


def _choose(sizes: I64, wanted: int) -> Iterator[tuple[int, I64]]:
    """Choose rows at random, the same ones each time; yield them by partition."""
    chosen = np.random.default_rng(_SEED).choice(int(sizes.sum()), wanted, replace=False)
    ends = np.cumsum(sizes)
    partitions = np.searchsorted(ends, chosen, side="right")
    for partition in np.unique(partitions):
        places = chosen[partitions == partition] - (ends[partition] - sizes[partition])
        yield int(partition), np.sort(places).astype(np.int64)
