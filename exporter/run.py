"""An export, start to end: validate, write, verify, publish, evict."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from exporter.bundle import Bundle, check_digests, fingerprint, load_bundle, vector_space
from exporter.check import Sample, StorePlace, compare_with_models, verify_generation
from exporter.inputs import (
    ItemBatch,
    Prepared,
    UserBatch,
    default_vectors,
    item_batches,
    prepare,
    user_batches,
)
from exporter.manifest import MODEL_KINDS
from exporter.progress import PhaseProgress
from exporter.sessions import RUNTIME
from gkc.arrays import F32, U8
from gkc.store import (
    Catalogue,
    Defaults,
    ElementType,
    GenerationManifest,
    GenerationSink,
    GenerationSpec,
    ItemBlock,
    Publisher,
    Retention,
    UserBlock,
    open_publisher,
)

T = TypeVar("T")
_DEPTH: Final = 2
"""Batches that may wait between reading, the models, and writing."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export, where to, and by which rules; the command's flags of the same names.

    Attributes
    ----------
    version : str
    bundle : Path
    store, namespace : str
    element_type : {"f16", "f32", "int8"}
    retention : Retention
    wait : bool
        Whether to delete after the grace, rather than leave it to the next writer.
    resume : bool
    max_pairs_per_user : int
    mirror_dir : Path or None
        Where this host notes tables that are whole, for the service beside it.
    """

    version: str
    bundle: Path
    store: str
    namespace: str = "default"
    element_type: ElementType = "f16"
    retention: Retention = field(default_factory=Retention)
    wait: bool = True
    resume: bool = False
    max_pairs_per_user: int = 1000
    mirror_dir: Path | None = None

    @property
    def place(self) -> StorePlace:
        """Where to read back what was written."""
        return StorePlace(self.store, self.namespace, self.mirror_dir)


@dataclass(frozen=True, slots=True)
class Report:
    """How many rows of a version were compared; of an export, how many it has."""

    store: str
    version: str
    generation: str | None
    users: int
    items: int
    user_categories: int

    def summary(self) -> dict[str, Any]:
        """Return the members that ``--json`` prints."""
        return {name: value for name, value in asdict(self).items() if name != "store"}


@dataclass(frozen=True, slots=True)
class ExportReport(Report):
    """What an export did, or, with ``generation`` None, what it would do.

    ``bytes`` is what the rows take in the store, ``evicted`` names versions.
    """

    bytes: int
    seconds: float
    evicted: list[str]


def run_export(options: ExportOptions, progress: PhaseProgress) -> ExportReport:
    """Export a bundle as a version: write -> verify -> publish -> evict.

    Raises
    ------
    GkcError
        Nothing of the export is left in the store then, and what was served still is; only where
        the store went away the next run cleans up.
    KeyboardInterrupt
        What was written stays, for ``resume``.
    """
    began = time.monotonic()
    retention = options.retention
    with closing(open_publisher(options.store, options.namespace)) as publisher:
        with _validated(options, publisher, progress) as (prepared, digests, _):
            mark = fingerprint(prepared.bundle, digests, options.element_type, RUNTIME)
            spec = _spec(
                options,
                prepared,
                mark,
                default_vectors(prepared, options.element_type),
                vector_space(prepared.bundle, digests, prepared.id_types.stored),
            )
            with publisher.stage(
                spec,
                max_versions=retention.max_versions,
                resume=options.resume,
                categories=prepared.categories,
            ) as staged:
                rows, sample = spec.users + spec.items, Sample(spec)
                facts = {"version": spec.version, "generation": staged.generation}
                progress.start("write", rows + spec.user_categories, **facts)
                writer = Writer(prepared, spec.element_type, staged.sink, sample, progress.advance)
                manifest = writer.write()
                progress.start("verify", rows, generation=staged.generation)
                check = verify_generation(options.place, manifest, sample, progress.advance)
                asyncio.run(check)
                progress.start("publish", None, generation=staged.generation)
                published = publisher.publish(staged, manifest, retention)
        progress.start("evict", None, generation=published.generation)
        publisher.delete_retired(wait=options.wait)
        return _report(publisher, spec, manifest, published.evicted, began)


def plan_export(options: ExportOptions, progress: PhaseProgress) -> ExportReport:
    """Do all of `run_export` that neither runs a model nor writes rows: the dry run.

    In a store that has versions it takes the version's lease, and gives it back.
    """
    began = time.monotonic()
    with (
        closing(open_publisher(options.store, options.namespace)) as publisher,
        _validated(options, publisher, progress) as (prepared, _, evicted),
    ):
        spec = _spec(options, prepared, "", Defaults(), None)
        return _report(publisher, spec, None, evicted, began)


def check_version(options: ExportOptions, progress: PhaseProgress) -> Report:
    """Compare a sample of what a version serves with what a bundle's models give.

    Raises
    ------
    VerificationError
        At the first row that is missing or differs.
    GkcError
        If version, store or bundle cannot be read.
    """
    bundle = _load(options, progress)
    with closing(open_publisher(options.store, options.namespace)) as publisher:
        generation = publisher.catalogue().version(options.version).current
    progress.start("check", None, version=options.version, generation=generation)
    check_digests(bundle)
    with prepare(bundle, options.max_pairs_per_user, progress.advance) as prepared:
        counted = asyncio.run(compare_with_models(options.place, generation, prepared))
    users, items, user_categories = (counted[kind] for kind in MODEL_KINDS)
    return Report(publisher.store, options.version, generation, users, items, user_categories)


@contextmanager
def _validated(
    options: ExportOptions, publisher: Publisher, progress: PhaseProgress
) -> Iterator[tuple[Prepared, dict[str, str], list[str]]]:
    """Check store, bundle and tables; give the tables, the files' digests and the evictions."""
    evicted = publisher.check_export(options.version, options.retention.max_versions)
    bundle = _load(options, progress)
    progress.start("validate", None, version=options.version, bundle=bundle.manifest.name)
    digests = check_digests(bundle)
    with prepare(bundle, options.max_pairs_per_user, progress.advance) as prepared:
        _tell_changed_ids(publisher.catalogue(), options.version, prepared, progress)
        yield prepared, digests, evicted


def _tell_changed_ids(
    catalogue: Catalogue, version: str, prepared: Prepared, progress: PhaseProgress
) -> None:
    """Warn where ids are of another type than in the generation that is to be replaced."""
    entry = catalogue.versions.get(version)
    if entry is None or (summary := catalogue.generations[entry.current].summary) is None:
        return
    for kind in ("user", "item", "category"):
        before, now = getattr(summary.id_types, kind), getattr(prepared.id_types, kind)
        if now != before:
            progress.warn(
                f"the {kind} ids of {version} are {now} in this bundle, {before} in generation "
                f"{entry.current}, which it replaces; questions with {before} ids will be refused",
                "id_type_changed",
                kind=kind,
            )


def _load(options: ExportOptions, progress: PhaseProgress) -> Bundle:
    bundle = load_bundle(options.bundle)
    progress.tell_skipped(bundle.skipped)
    return bundle


def _spec(
    options: ExportOptions, prepared: Prepared, mark: str, defaults: Defaults, space: str | None
) -> GenerationSpec:
    bundle = prepared.bundle.manifest
    return GenerationSpec(
        version=options.version,
        element_type=options.element_type,
        dim=bundle.dim,
        category_dim=bundle.category_dim,
        users=prepared.rows("users"),
        items=prepared.rows("items"),
        user_categories=prepared.rows("user_categories"),
        bundle=bundle.name,
        origin=bundle.origin(space),
        fingerprint=mark,
        defaults=defaults,
        user_id_type=prepared.id_types.user,
        item_id_type=prepared.id_types.item,
        category_id_type=prepared.id_types.category,
        user_id_bytes=prepared.tables["users"].name_bytes,
        item_id_bytes=prepared.tables["items"].name_bytes,
        categories=len(prepared.categories),
        category_bytes=sum(map(len, prepared.categories)),
    )


def _report(
    publisher: Publisher,
    spec: GenerationSpec,
    manifest: GenerationManifest | None,
    evicted: list[str],
    began: float,
) -> ExportReport:
    """Say what was exported, or, without a manifest, what would be."""
    return ExportReport(
        publisher.store,
        spec.version,
        manifest.generation if manifest else None,
        spec.users,
        spec.items,
        spec.user_categories,
        bytes=manifest.totals.size_bytes if manifest else spec.payload_bytes,
        seconds=round(time.monotonic() - began, 3),
        evicted=evicted,
    )


class Writer:
    """Writes all rows of a prepared bundle: reading, the models and the store work side by side.

    Parameters
    ----------
    prepared : Prepared
    element_type : {"f16", "f32", "int8"}
    sink : GenerationSink
    sample : Sample
        Is shown everything that is written.
    progress : callable
        Is given how many more items, users and pairs are stored.
    """

    def __init__(
        self,
        prepared: Prepared,
        element_type: ElementType,
        sink: GenerationSink,
        sample: Sample,
        progress: Callable[[int], None],
    ) -> None:
        self._prepared = prepared
        self._models = prepared.models
        self._element_type: ElementType = element_type
        self._sink = sink
        self._sample = sample
        self._progress = progress
        self._largest_user = 0.0, 0
        """The largest absolute value of a K_u, and the row of the table that it is of."""

    def write(self) -> GenerationManifest:
        """Write all that the sink does not have yet, items first, then users with their pairs.

        Returns
        -------
        GenerationManifest
            Of the sealed generation.

        Raises
        ------
        ModelOutputError
            If an output, or a product of two, is no vector that can be stored.
        StoreError
            If the store does not take the rows.
        """
        done = self._sink.written()
        self._progress(done.items + done.users + done.user_categories)
        with (
            ahead(item_batches(self._prepared, done.items)) as item_rows,
            ahead(self._infer_items(item_rows)) as items,
            self._prepared.sessions.ended_by_errors(),
        ):
            for batch, k_i in items:
                self._write_items(batch, k_i)
        with (
            ahead(user_batches(self._prepared, done.users)) as user_rows,
            ahead(self._infer_users(user_rows)) as users,
            self._prepared.sessions.ended_by_errors(),
        ):
            for of_users, k_u, k_uc in users:
                self._write_users(of_users, k_u, k_uc)
        manifest = self._sink.seal()
        self._refuse_overflow(manifest.totals.largest_user, manifest.totals.largest_item)
        return manifest

    def _infer_items(self, batches: Iterable[ItemBatch]) -> Iterator[tuple[ItemBatch, F32]]:
        for batch in batches:
            yield batch, self._models["item"].infer(batch.inputs, batch.rows)

    def _infer_users(self, batches: Iterable[UserBatch]) -> Iterator[tuple[UserBatch, F32, F32]]:
        for batch in batches:
            k_u = self._models["user"].infer(batch.user_inputs, batch.rows)
            yield batch, k_u, self._infer_pairs(batch)

    def _infer_pairs(self, batch: UserBatch) -> F32:
        model = self._models.get("user_category")
        if model is None:
            return np.empty((0, 0), dtype=np.float32)
        return model.infer(batch.pair_inputs, batch.pair_rows)

    def _write_items(self, batch: ItemBatch, k_i: F32) -> None:
        stored = self._models["item"].encode(k_i, batch.rows, self._element_type)
        items = ItemBlock(batch.ids, stored, batch.categories, batch.has_category, batch.names)
        block = items.take(slice(batch.skip, None))
        self._sink.write_items(block)
        self._sample.see_items(block)
        self._progress(len(block.ids))

    def _write_users(self, batch: UserBatch, k_u: F32, k_uc: F32) -> None:
        stored = self._models["user"].encode(k_u, batch.rows, self._element_type)
        pairs = self._encode_pairs(batch, k_uc)
        largest, row = largest_row(k_u)
        if largest > self._largest_user[0]:
            self._largest_user = largest, int(batch.rows[row])
        users = UserBlock(
            batch.ids, stored, batch.pair_offsets, batch.categories, pairs, batch.names
        )
        block = users.span(batch.skip, len(batch.ids))
        self._sink.write_users(block)
        self._sample.see_users(block)
        self._progress(len(block.ids) + len(block.categories))

    def _encode_pairs(self, batch: UserBatch, k_uc: F32) -> U8:
        model = self._models.get("user_category")
        if model is None:
            return np.empty((0, 0), dtype=np.uint8)
        return model.encode(k_uc, batch.pair_rows, self._element_type)

    def _refuse_overflow(self, largest_user: float, largest_item: float) -> None:
        if product_overflows(largest_user, largest_item):
            raise self._models["user"].error(
                f"gave {largest_user!r}, which times {largest_item!r} of "
                f"{self._models['item'].file} is not finite in float32",
                np.asarray([self._largest_user[1]]),
                0,
            )


@contextmanager
def ahead(source: Iterable[T], depth: int = _DEPTH) -> Iterator[Iterator[T]]:
    """Run an iterable in a thread of its own, at most ``depth`` items ahead of the consumer.

    What the iterable raises is raised to the consumer. Leaving the block stops the thread after the
    item that it is at and waits for it; close consumers before what they consume. No item is None.
    """
    items = iter(source)
    waiting: deque[Future[T | None]] = deque()

    def take(pool: ThreadPoolExecutor) -> Iterator[T]:
        # One more than may wait: the one that the thread is at.
        waiting.extend(pool.submit(next, items, None) for _ in range(depth + 1))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, items, None))
            yield item

    with ThreadPoolExecutor(1) as pool:
        try:
            yield take(pool)
        finally:
            pool.shutdown(cancel_futures=True)


def largest_row(vectors: F32) -> tuple[float, int]:
    """Return the largest absolute value of some finite vectors, and its row; (0.0, 0) of none."""
    if not vectors.size:
        return 0.0, 0
    of_rows = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    row = int(of_rows.argmax())
    return float(of_rows[row]), row


def product_overflows(largest_user: float, largest_item: float) -> bool:
    """Tell whether K_u * K_i might not be finite in float32."""
    with np.errstate(over="ignore"):
        return not np.isfinite(np.float32(largest_user) * np.float32(largest_item))
