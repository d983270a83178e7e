"""An export, start to end: validate, write, verify, publish, evict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.bundle import Bundle, check_digests, fingerprint, load_bundle
from exporter.errors import ModelOutputError
from exporter.inference import RUNTIME
from exporter.prepare import Prepared, prepare
from exporter.progress import PhaseProgress
from exporter.sample import Sample
from exporter.vectors import default_vectors
from exporter.verify import verify_generation
from exporter.writer import Writer, product_overflows
from gkc.store import (
    Defaults,
    ElementType,
    GenerationManifest,
    GenerationSpec,
    Published,
    Publisher,
    Retention,
    StagedGeneration,
    open_publisher,
)


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


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did, or, with ``generation`` None, what it would do.

    ``bytes`` is what the rows take in the store, ``evicted`` names versions.
    """

    store: str
    version: str
    generation: str | None
    users: int
    items: int
    user_categories: int
    bytes: int
    seconds: float
    evicted: list[str]

    def summary(self) -> dict[str, Any]:
        """Return the members that ``--json`` prints."""
        names = "version generation users items user_categories bytes seconds evicted"
        return {name: getattr(self, name) for name in names.split()}


def run_export(options: ExportOptions, progress: PhaseProgress) -> ExportReport:
    """Export a bundle as a version: write -> verify -> publish -> evict.

    Raises
    ------
    GkcError
        Nothing of the export is left in the store then, and what was served still is; only after
        StoreUnavailableError the next run cleans up.
    KeyboardInterrupt
        What was written stays, for ``resume``.
    """
    began = time.monotonic()
    with closing(open_publisher(options.store, options.namespace)) as publisher:
        with _validated(options, publisher, progress) as (prepared, digests, _):
            spec = _spec(options, prepared, digests)
            with publisher.stage(
                spec, max_versions=options.retention.max_versions, resume=options.resume
            ) as staged:
                sample = Sample(spec)
                manifest = _write(options, prepared, spec, staged, sample, progress)
                progress.start("verify", spec.users + spec.items, generation=staged.generation)
                verify_generation(
                    options.store, options.namespace, manifest, sample, progress.advance
                )
                published = _publish(options, publisher, staged, manifest, progress)
        progress.start("evict", None, generation=published.generation)
        publisher.delete_retired(wait=options.wait)
        return _report(publisher.store, manifest, published, time.monotonic() - began)


def plan_export(options: ExportOptions, progress: PhaseProgress) -> ExportReport:
    """Do all of `run_export` that neither runs a model nor writes: the dry run."""
    began = time.monotonic()
    with (
        closing(open_publisher(options.store, options.namespace)) as publisher,
        _validated(options, publisher, progress) as (prepared, _, evicted),
    ):
        spec = _spec_without_defaults(options, prepared, "")
        return ExportReport(
            store=publisher.store,
            version=spec.version,
            generation=None,
            users=spec.users,
            items=spec.items,
            user_categories=spec.user_categories,
            bytes=spec.payload_bytes,
            seconds=round(time.monotonic() - began, 3),
            evicted=evicted,
        )


@contextmanager
def _validated(
    options: ExportOptions, publisher: Publisher, progress: PhaseProgress
) -> Iterator[tuple[Prepared, dict[str, str], list[str]]]:
    """Check store, bundle and tables; give the tables, the files' digests and the evictions."""
    evicted = publisher.check_export(options.version, options.retention.max_versions)
    bundle = load_bundle(options.bundle)
    progress.start("validate", None, version=options.version, bundle=bundle.name)
    digests = check_digests(bundle)
    with prepare(bundle, options.max_pairs_per_user, progress.advance) as prepared:
        yield prepared, digests, evicted


def _spec(options: ExportOptions, prepared: Prepared, digests: dict[str, str]) -> GenerationSpec:
    mark = fingerprint(prepared.bundle, digests, options.element_type, RUNTIME)
    defaults = default_vectors(prepared, options.element_type)
    return _spec_without_defaults(options, prepared, mark, defaults)


def _spec_without_defaults(
    options: ExportOptions, prepared: Prepared, mark: str, defaults: Defaults | None = None
) -> GenerationSpec:
    bundle: Bundle = prepared.bundle
    return GenerationSpec(
        version=options.version,
        element_type=options.element_type,
        dim=bundle.dim,
        category_dim=bundle.category_dim,
        users=prepared.tables["users"].rows,
        items=prepared.tables["items"].rows,
        user_categories=prepared.tables["user_categories"].rows,
        bundle=bundle.name,
        origin=bundle.origin,
        fingerprint=mark,
        defaults=defaults or Defaults(),
    )


def _write(
    options: ExportOptions,
    prepared: Prepared,
    spec: GenerationSpec,
    staged: StagedGeneration,
    sample: Sample,
    progress: PhaseProgress,
) -> GenerationManifest:
    progress.start("write", _rows(spec), version=spec.version, generation=staged.generation)
    writer = Writer(prepared, options.element_type, staged.sink, sample, progress.advance)
    writer.write()
    manifest = staged.sink.seal()
    totals = manifest.totals
    if product_overflows(totals.largest_user, totals.largest_item):
        _, row = writer.peaks["user"]
        model = prepared.models["user"]
        file, place = prepared.tables["users"].locate(row)
        raise ModelOutputError(
            model.file,
            model.output,
            file,
            place,
            f"gave {totals.largest_user!r}, which times {totals.largest_item!r} of "
            f"{prepared.models['item'].file} is not finite in float32",
        )
    return manifest


def _publish(
    options: ExportOptions,
    publisher: Publisher,
    staged: StagedGeneration,
    manifest: GenerationManifest,
    progress: PhaseProgress,
) -> Published:
    progress.start("publish", None, generation=staged.generation)
    return publisher.publish(staged, manifest, options.retention)


def _report(
    store: str, manifest: GenerationManifest, published: Published, seconds: float
) -> ExportReport:
    totals = manifest.totals
    return ExportReport(
        store=store,
        version=manifest.spec.version,
        generation=published.generation,
        users=totals.users,
        items=totals.items,
        user_categories=totals.user_categories,
        bytes=totals.size_bytes,
        seconds=round(seconds, 3),
        evicted=published.evicted,
    )


def _rows(spec: GenerationSpec) -> int:
    return spec.users + spec.items + spec.user_categories
