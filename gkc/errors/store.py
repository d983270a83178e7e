"""Errors about a store, the versions in it and the generations of these."""

from __future__ import annotations

from collections.abc import Sequence

from gkc.errors.root import GkcError


class StoreError(GkcError):
    """Something about the store or what it holds."""


class StoreUrlError(StoreError):
    """The URL names no store that gkc knows."""

    def __init__(self, url: str, reason: str, remedy: str = "") -> None:
        self.url = url
        self.reason = reason
        self.remedy = remedy or (
            "use file:PATH, redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix://PATH"
        )
        super().__init__(f"store URL {url!r}: {reason}; {self.remedy}")


class StoreUnavailableError(StoreError):
    """The store cannot be reached, refuses us, or does not answer in time."""

    def __init__(self, store: str, cause: str, remedy: str = "") -> None:
        self.store = store
        self.cause = cause
        self.remedy = remedy or "mend that, then try again"
        super().__init__(f"store {store} is not available: {cause}; {self.remedy}")


class StoreFullError(StoreUnavailableError):
    """The store has no room for what is written, until something else is deleted."""


class UnsafeStoreError(StoreError):
    """The store is set up so that it may lose what is published into it."""

    def __init__(self, store: str, reason: str, remedy: str) -> None:
        self.store = store
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"store {store} is not safe to publish into: {reason}; {remedy}")


class CatalogueLostError(StoreError):
    """A catalogue that was there has vanished, or cannot be read as a catalogue."""

    def __init__(self, store: str, reason: str, remedy: str = "") -> None:
        self.store = store
        self.reason = reason
        self.remedy = remedy or "restore it from a backup or export again"
        super().__init__(f"catalogue of {store}: {reason}; {self.remedy}")


class OldCatalogueError(CatalogueLostError):
    """The catalogue is one of an earlier gkc, whose versions this one cannot serve."""

    REASON = (
        "it was written by an earlier gkc, in format 1, which this one does not read; choose "
        "another GKC_NAMESPACE, switch the service, then `gkc versions delete --old-format --yes`"
    )

    def __init__(self, store: str) -> None:
        super().__init__(store, self.REASON)
        self.args = (f"catalogue of {store}: {self.REASON}",)


class NoOldCatalogueError(StoreError):
    """Data of an earlier gkc is to be deleted, but the catalogue is none of it."""

    def __init__(self, store: str) -> None:
        self.store = store
        super().__init__(
            f"store {store} holds no catalogue of format 1 in this namespace; "
            "check GKC_NAMESPACE and --store"
        )


class VersionNotFoundError(StoreError):
    """No such version in the catalogue."""

    def __init__(self, version: str, known: Sequence[str]) -> None:
        self.version = version
        self.known = tuple(known)
        there = ", ".join(self.known) if self.known else "none"
        super().__init__(f"version {version!r} is not in the store; versions there: {there}")


class VersionNotReadyError(StoreError):
    """The version is published, but this process has not loaded it yet; why, if it tried."""

    def __init__(self, version: str, cause: str = "") -> None:
        self.version = version
        self.cause = cause
        state = f"cannot be loaded: {cause}; this is tried again" if cause else "is being loaded"
        super().__init__(f"version {version!r} {state}; ask again shortly")


class ServiceNotReadyError(StoreError):
    """The service cannot answer yet for every version that it should."""


class VersionBusyError(StoreError):
    """Another writer exports this version right now."""

    def __init__(self, version: str, holder: str) -> None:
        self.version = version
        self.holder = holder
        super().__init__(
            f"version {version!r} is being written by {holder}; wait for it to end, then run again"
        )


class VersionLimitError(StoreError):
    """Publishing would need an eviction, but every other version is pinned."""

    def __init__(self, version: str, max_versions: int, pinned: Sequence[str]) -> None:
        self.version = version
        self.max_versions = max_versions
        self.pinned = tuple(pinned)
        super().__init__(
            f"version {version!r} does not fit: at most {max_versions} versions, and every "
            f"other one is pinned ({', '.join(self.pinned)}); unpin or delete one, "
            "or raise --max-versions"
        )


class NoPreviousGenerationError(StoreError):
    """Rollback was asked for a version that has no previous generation."""

    def __init__(self, version: str) -> None:
        self.version = version
        super().__init__(
            f"version {version!r} has no previous generation to roll back to; "
            "export it again instead"
        )


class LeaseLostError(StoreError):
    """The writer was taken for dead: its lease ran out or was taken over."""

    def __init__(self, version: str, generation: str) -> None:
        self.version = version
        self.generation = generation
        super().__init__(
            f"lost the writer lease of version {version!r} while writing {generation}; "
            "nothing was published; run the export again"
        )


class GenerationNotFoundError(StoreError):
    """The generation is not in the store (any more)."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        super().__init__(
            f"generation {generation} is not in the store; it was deleted or never published"
        )


class GenerationCorruptError(StoreError):
    """Data that belongs to a generation is missing or damaged."""

    def __init__(self, generation: str, what: str) -> None:
        self.generation = generation
        self.what = what
        super().__init__(f"generation {generation} is damaged: {what}; export its version again")


class GenerationImmutableError(StoreError):
    """Something tried to write to a generation that is sealed or published."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        super().__init__(
            f"generation {generation} is sealed and never changes; write a new generation"
        )
