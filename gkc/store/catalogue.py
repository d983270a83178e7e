"""The catalogue: what each version serves, and which generations there are.

`gkc.store.changes` has the rules that change it. A generation is *staging* while it is written,
*published* while it is a version's current or previous, *retired* until its grace period ends and
its data is deleted, and *abandoned* when its writer died: then its data is deleted at once, and
again by later writers for a day, since the writer may wake up.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, Self

import msgspec

from gkc.errors import (
    CatalogueLostError,
    EarlierFormatError,
    GenerationCorruptError,
    GenerationNotFoundError,
    OldCatalogueError,
    RecordError,
    StoreError,
    VersionNotFoundError,
)
from gkc.store.codec import ElementType
from gkc.store.generation import GenerationLayout, GenerationManifest, IdTypes, Name, Origin
from gkc.store.sealed import Count, Magnitude, Record, seal, unseal

CATALOGUE_FORMAT: Final = "gkc-catalogue/2"
DEFAULT_MAX_VERSIONS: Final = 5
DEFAULT_GRACE_SECONDS: Final = 10.0

State = Literal["staging", "published", "retired", "abandoned"]
Succession = Literal["later", "earlier", "other"]


class Summary(Record, frozen=True):
    """What ``GET /versions`` tells of a generation.

    ``checksum`` is the SHA-256 of its manifest, which holds those of its data; the first catalogues
    of this format were without, and without ``id_types``.
    """

    users: Count
    items: Count
    user_categories: Count
    dim: Count
    category_dim: Count
    dtype: ElementType
    bytes: Count
    bundle: str
    checksum: str = ""
    origin: Origin = Origin()
    id_types: IdTypes = IdTypes()

    @classmethod
    def of(cls, manifest: GenerationManifest) -> Self:
        """Summarise a sealed generation."""
        spec, totals = manifest.spec, manifest.totals
        return cls(
            users=totals.users,
            items=totals.items,
            user_categories=totals.user_categories,
            dim=spec.dim,
            category_dim=spec.category_dim,
            dtype=spec.element_type,
            bytes=totals.size_bytes,
            bundle=spec.bundle,
            checksum=manifest.checksum,
            origin=spec.origin,
            id_types=spec.id_types,
        )


class GenerationEntry(Record, frozen=True):
    """The catalogue's note of one generation.

    Attributes
    ----------
    version : str
    state : {"staging", "published", "retired", "abandoned"}
    layout : GenerationLayout
        From which the names of its keys follow.
    fingerprint : str
        What an interrupted export must match to be resumed.
    token : str
        Of the writer that may publish it; empty once published.
    holder : str
        Who writes it, for people.
    sequence : int
        Its place in the order of publication, from 1; 0 before.
    published_at : str
        UTC time of publication, ISO 8601; for people, never compared.
    delete_after : float
        Unix time in seconds, by the clock of who changed it, from which its data may go (retired)
        or its tombstone (abandoned).
    grace_seconds : float
        How long readers may go on with what is retired.
    summary : Summary or None
        None before publication.
    """

    version: Name
    state: State
    layout: GenerationLayout
    fingerprint: str = ""
    token: str = ""
    holder: str = ""
    sequence: Count = 0
    published_at: str = ""
    delete_after: float = 0.0
    grace_seconds: Magnitude = DEFAULT_GRACE_SECONDS
    summary: Summary | None = None

    def check_published(self, field: str) -> None:
        """Check what is told of a published generation."""
        if self.summary is None:
            raise RecordError(f"{field}.summary: a published one has one")
        try:
            datetime.fromisoformat(self.published_at)
        except ValueError as exc:
            raise RecordError(f"{field}.published_at: {self.published_at!r} is no time") from exc


class VersionEntry(Record, frozen=True):
    """The generations that a version serves now and could be rolled back to."""

    current: Name
    previous: Name | None = None
    pinned: bool = False


class Catalogue(Record, frozen=True):
    """The store's one small record.

    ``revision`` grows by one with each change, ``counter`` with each generation ever begun.
    ``history`` holds a random token for each of the last revisions, the newest last: two catalogues
    with the same token for the same revision share all that was before it (see `succession`).
    """

    revision: Count = 0
    counter: Count = 0
    published: Count = 0
    max_versions: Count = DEFAULT_MAX_VERSIONS
    versions: dict[Name, VersionEntry] = msgspec.field(default_factory=dict)
    generations: dict[Name, GenerationEntry] = msgspec.field(default_factory=dict)
    history: tuple[str, ...] = ()

    def token_at(self, revision: int) -> str | None:
        """Return the token of a revision; None if it is not (or no longer) known here."""
        back = self.revision - revision
        return self.history[-1 - back] if 0 <= back < len(self.history) else None

    def version(self, name: str) -> VersionEntry:
        """Return a version's entry.

        Raises
        ------
        VersionNotFoundError
            If the catalogue has no such version; names those it has.
        """
        if name not in self.versions:
            raise VersionNotFoundError(name, self.newest_first())
        return self.versions[name]

    def newest_first(self) -> list[str]:
        """Return the versions by when their served generation was published, newest first."""
        return sorted(
            self.versions,
            key=lambda v: (self.generations[self.versions[v].current].sequence, v),
            reverse=True,
        )

    def in_state(self, *states: State) -> dict[str, GenerationEntry]:
        """Return the generations in any of these states, in order of their ids."""
        return {g: e for g, e in sorted(self.generations.items()) if e.state in states}

    def to_bytes(self) -> bytes:
        """Serialise as sealed JSON; equal catalogues have equal bytes."""
        return seal(self, CATALOGUE_FORMAT)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the catalogue that `to_bytes` gave.

        Raises
        ------
        RecordError
            If the bytes are no catalogue of this format; names the field.
        """
        catalogue = unseal(raw, CATALOGUE_FORMAT, cls)
        for name, version in catalogue.versions.items():
            for field in ("current", "previous"):
                catalogue._check_named(f"$.versions.{name}.{field}", name, getattr(version, field))
        for generation, entry in catalogue.generations.items():
            if entry.state == "published":
                entry.check_published(f"$.generations.{generation}")
            if generation in (".", ".."):
                raise RecordError(f"$.generations: {generation!r} is no generation")
        return catalogue

    def _check_named(self, field: str, version: str, generation: str | None) -> None:
        """Check that what a version names is a published generation of it."""
        if generation is None:
            return
        entry = self.generations.get(generation)
        if entry is None or entry.state != "published" or entry.version != version:
            raise RecordError(f"{field}: {generation} is no published generation of it")


def read_catalogue(raw: bytes | None, store: str) -> Catalogue | None:
    """Return the catalogue from its stored form, None if there is none.

    Raises
    ------
    OldCatalogueError
        If an earlier gkc wrote it.
    CatalogueLostError
        If it is no catalogue.
    """
    if raw is None:
        return None
    try:
        return Catalogue.from_bytes(raw)
    except EarlierFormatError as exc:
        raise OldCatalogueError(store) from exc
    except RecordError as exc:
        raise CatalogueLostError(store, f"it cannot be read: {exc}") from exc


def missing(
    generation: str, what: str, catalogue: Catalogue | None, has_manifest: bool = False
) -> StoreError:
    """Return the error for missing data of a generation.

    It is damage while the catalogue needs the generation or its manifest is there, for a deletion
    takes the manifest first; else the generation was deleted.
    """
    needed = catalogue.in_state("staging", "published") if catalogue else {}
    if has_manifest or generation in needed:
        return GenerationCorruptError(generation, what)
    return GenerationNotFoundError(generation)


def succession(known: Catalogue, fresh: Catalogue) -> Succession:
    """Tell how a catalogue just read relates to the one that a reader knows.

    A store can come back from a backup, and then be written on: its revisions are counted again
    from a smaller one, but get new tokens. A replica that is late shows a smaller revision with
    its old token. So the tokens of the smaller of both revisions tell:

    - *later*: ``fresh`` is what became of ``known``, or the same; to be followed at once.
    - *earlier*: ``known`` is what became of ``fresh``: a late replica, or a backup that nobody
      wrote to yet. To be followed only if it stays.
    - *other*: both came from a common past, if any, by different changes: a restored store that was
      written to, or another store. To be followed at once, since ``known`` will not come back.

    Where one of both has no token for that revision, because it is more than `HISTORY_LENGTH`
    changes ahead or was written before there were any, only the revisions decide.
    """
    smaller = min(known.revision, fresh.revision)
    ours, theirs = known.token_at(smaller), fresh.token_at(smaller)
    if ours and theirs and ours != theirs:
        return "other"
    return "earlier" if fresh.revision < known.revision else "later"
