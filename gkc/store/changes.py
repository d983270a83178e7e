"""Every rule that changes a catalogue: stage, publish, evict, roll back, delete. Pure functions.

A change takes a catalogue and returns the next one; a store makes it real by one compare-and-swap.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from gkc.errors import LeaseLostError, NoPreviousGenerationError, VersionLimitError
from gkc.store.catalogue import (
    DEFAULT_GRACE_SECONDS,
    DEFAULT_MAX_VERSIONS,
    Catalogue,
    GenerationEntry,
    Summary,
    VersionEntry,
)
from gkc.store.generation import GenerationManifest, GenerationSpec

HISTORY_LENGTH: Final = 32
TOMBSTONE_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """What stays in a store when a version is published into it.

    Attributes
    ----------
    max_versions : int
        Versions served at most, at least 1; `plan_evictions` says which go.
    keep_previous : int
        Former generations of the version kept for a rollback: 0 or 1.
    grace_seconds : float
        How long readers may go on with what is retired.
    pin : bool
        Whether this version is never to be evicted.
    """

    max_versions: int = DEFAULT_MAX_VERSIONS
    keep_previous: int = 1
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    pin: bool = False


def plan_evictions(catalogue: Catalogue, version: str, max_versions: int) -> list[str]:
    """Name the versions that publishing ``version`` would evict.

    The unpinned versions whose served generation was published earliest, ties by id, never the one
    being published.

    Raises
    ------
    VersionLimitError
        If too few of the other versions are unpinned.
    """
    others = [v for v in reversed(catalogue.newest_first()) if v != version]
    excess = len(others) + 1 - max_versions
    if excess <= 0:
        return []
    unpinned = [v for v in others if not catalogue.versions[v].pinned]
    if len(unpinned) < excess:
        raise VersionLimitError(version, max_versions, [v for v in others if v not in unpinned])
    return unpinned[:excess]


def begin(
    catalogue: Catalogue, spec: GenerationSpec, max_versions: int, token: str, holder: str
) -> tuple[Catalogue, str]:
    """Enter a new staging generation and return its id: a counter, then a random suffix.

    Raises
    ------
    VersionLimitError
        If it could not be published because every other version is pinned.
    """
    plan_evictions(catalogue, spec.version, max_versions)
    counter = catalogue.counter + 1
    generation = f"{counter:010d}-{secrets.token_hex(4)}"
    entry = GenerationEntry(
        version=spec.version,
        state="staging",
        layout=spec.layout,
        fingerprint=spec.fingerprint,
        token=token,
        holder=holder,
    )
    return _with(replace(catalogue, counter=counter), {generation: entry}), generation


def resumable(catalogue: Catalogue, spec: GenerationSpec) -> str | None:
    """Return the newest staging generation that an export of ``spec`` may go on with, if any."""
    fits = [
        g
        for g, e in catalogue.in_state("staging").items()
        if e.version == spec.version
        and e.fingerprint == spec.fingerprint
        and e.layout == spec.layout
    ]
    return fits[-1] if fits else None


def adopt(catalogue: Catalogue, generation: str, token: str, holder: str) -> Catalogue:
    """Hand a staging generation to another writer; the former one is fenced off by its token."""
    entry = replace(catalogue.generations[generation], token=token, holder=holder)
    return _with(catalogue, {generation: entry})


def publish(
    catalogue: Catalogue,
    manifest: GenerationManifest,
    retention: Retention,
    *,
    token: str,
    published_at: str,
    now: float,
) -> tuple[Catalogue, list[str]]:
    """Flip a version to its staged generation and evict what no longer fits, in one change.

    Returns
    -------
    Catalogue
    list of str
        The versions evicted.

    Raises
    ------
    LeaseLostError
        If the generation is no longer staged under this token.
    VersionLimitError
        If every other version has been pinned meanwhile.
    """
    generation, version = manifest.generation, manifest.spec.version
    entry = catalogue.generations.get(generation)
    if entry is None or entry.state != "staging" or entry.token != token:
        raise LeaseLostError(version, generation)
    evicted = plan_evictions(catalogue, version, retention.max_versions)
    old = catalogue.versions.get(version)
    versions = {v: e for v, e in catalogue.versions.items() if v not in evicted}
    versions[version] = VersionEntry(
        current=generation,
        previous=old.current if old and retention.keep_previous else None,
        pinned=retention.pin or bool(old and old.pinned),
    )
    entry = replace(
        entry,
        state="published",
        token="",
        holder="",
        sequence=catalogue.published + 1,
        published_at=published_at,
        summary=Summary.of(manifest),
    )
    after = replace(
        _with(catalogue, {generation: entry}),
        versions=versions,
        max_versions=retention.max_versions,
        published=catalogue.published + 1,
    )
    return _retire_unreferenced(after, now, retention.grace_seconds), evicted


def rollback(catalogue: Catalogue, version: str) -> Catalogue:
    """Swap a version's current and previous generation; doing it twice undoes it.

    Raises
    ------
    VersionNotFoundError, NoPreviousGenerationError
    """
    entry = catalogue.version(version)
    if entry.previous is None:
        raise NoPreviousGenerationError(version)
    swapped = replace(entry, current=entry.previous, previous=entry.current)
    return _change(catalogue, versions={**catalogue.versions, version: swapped})


def set_pinned(catalogue: Catalogue, version: str, *, pinned: bool) -> Catalogue:
    """Pin a version against eviction, or unpin it.

    Raises
    ------
    VersionNotFoundError
    """
    entry = replace(catalogue.version(version), pinned=pinned)
    return _change(catalogue, versions={**catalogue.versions, version: entry})


def delete(catalogue: Catalogue, version: str, now: float, grace_seconds: float) -> Catalogue:
    """Take a version out of service and retire its generations.

    Raises
    ------
    VersionNotFoundError
    """
    catalogue.version(version)
    versions = {v: e for v, e in catalogue.versions.items() if v != version}
    return _retire_unreferenced(_change(catalogue, versions=versions), now, grace_seconds)


def abandon(catalogue: Catalogue, generation: str, now: float) -> Catalogue:
    """Turn a dead writer's staging entry into a tombstone, if it still is one."""
    entry = catalogue.generations.get(generation)
    if entry is None or entry.state != "staging":
        return catalogue
    tomb = replace(entry, state="abandoned", token="", delete_after=now + TOMBSTONE_SECONDS)
    return _with(catalogue, {generation: tomb})


def forget(catalogue: Catalogue, generations: Iterable[str]) -> Catalogue:
    """Drop the entries of generations whose data is gone; published ones are kept."""
    gone = {g for g in generations if g in catalogue.generations}
    gone -= set(catalogue.in_state("published"))
    if not gone:
        return catalogue
    kept = {g: e for g, e in catalogue.generations.items() if g not in gone}
    return _change(catalogue, generations=kept)


def _retire_unreferenced(catalogue: Catalogue, now: float, grace_seconds: float) -> Catalogue:
    """Retire the published generations that no version names any more (same revision)."""
    named = {g for e in catalogue.versions.values() for g in (e.current, e.previous)}
    generations = {
        g: replace(
            e, state="retired", delete_after=now + grace_seconds, grace_seconds=grace_seconds
        )
        if e.state == "published" and g not in named
        else e
        for g, e in catalogue.generations.items()
    }
    return replace(catalogue, generations=generations)


def _with(catalogue: Catalogue, entries: Mapping[str, GenerationEntry]) -> Catalogue:
    return _change(catalogue, generations={**catalogue.generations, **entries})


def _change(catalogue: Catalogue, **changes: Any) -> Catalogue:  # noqa: ANN401
    history = (*catalogue.history, secrets.token_hex(4))[-HISTORY_LENGTH:]
    return replace(catalogue, revision=catalogue.revision + 1, history=history, **changes)
