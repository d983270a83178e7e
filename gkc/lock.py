"""What ties a downstream model to the knowledge it was trained on: a small file beside the model.

::

    {"format": "gkc-lock/1", "exact": false,
     "versions": {"20211220": {"vector_space": "sha256:…", "generation": "…", "checksum": "…"}}}

The axes of two training runs mean different things, so that a model must never see the vectors of
another run than its own, whatever name they are served under. Vectors of equal spaces may differ: a
later export of the same models on newer tables is what a model expects to be asked with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec

from gkc.errors import CommandError, LockMismatchError

_LARGEST_FILE: Final = 1 << 20


class LockedVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one version served when it was locked; ``checksum`` is that of its generation."""

    vector_space: str
    generation: str
    checksum: str


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The versions that a downstream model may be asked with, and what each must be.

    Attributes
    ----------
    versions : mapping of str to LockedVersion
        Not empty.
    exact : bool
        Whether the very generation is wanted, and not only its vector space.
    """

    versions: dict[str, LockedVersion]
    exact: bool = False
    format: Literal["gkc-lock/1"] = "gkc-lock/1"

    @classmethod
    def of(
        cls, listing: Mapping[str, Any], versions: Iterable[str], store: str, *, exact: bool
    ) -> Self:
        """Lock versions as a store or a service lists them.

        Parameters
        ----------
        listing : mapping
            The body of ``GET /versions``.
        versions : iterable of str
        store : str
            Whose listing it is, for messages.
        exact : bool

        Raises
        ------
        LockMismatchError
            If one is not there.
        """
        return cls({name: served_as(listing, name, store) for name in versions}, exact)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a lock file.

        Raises
        ------
        CommandError
            If it is not there, or is none.
        """
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise CommandError(f"lock {file} is no regular file")
        try:
            with file.open("rb") as stream:
                raw = stream.read(_LARGEST_FILE)
        except OSError as exc:
            raise CommandError(f"lock {file} cannot be read: {exc.strerror}") from exc
        try:
            lock = msgspec.json.decode(raw, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise CommandError(f"{file} is no lock of gkc: {exc}; write one by gkc lock") from exc
        if not lock.versions:
            raise CommandError(f"{file} locks no version; write it anew by gkc lock")
        return lock

    def to_bytes(self) -> bytes:
        """Return the file's content, a line of JSON for each member."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def only_version(self) -> str | None:
        """Return the version, if there is one alone: it need not be named in a question."""
        return next(iter(self.versions)) if len(self.versions) == 1 else None

    def check(self, listing: Mapping[str, Any], store: str, *, exact: bool) -> None:
        """Check that what a store or a service lists is what was locked.

        Parameters
        ----------
        listing : mapping
            The body of ``GET /versions``.
        store : str
            Whose listing it is, for messages.
        exact : bool
            Whether the generation must be the very one, even if the lock does not say so.

        Raises
        ------
        LockMismatchError
            If a version is not there, or is of another vector space, or, where the lock is exact,
            of another generation; says which.
        """
        for version in self.versions:
            self.check_version(version, served_as(listing, version, store), store, exact=exact)

    def check_version(
        self, version: str, served: LockedVersion, store: str, *, exact: bool = False
    ) -> None:
        """Check that one version is served as what was locked; raises as `check`."""
        if version not in self.versions:
            raise LockMismatchError(store, version, f"the lock is of {', '.join(self.versions)}")
        locked = self.versions[version]
        if served.vector_space != locked.vector_space:
            raise LockMismatchError(
                store,
                version,
                f"generation {served.generation} is of vector space {served.vector_space}, "
                f"the lock's is {locked.vector_space}",
            )
        if (exact or self.exact) and served != locked:
            raise LockMismatchError(
                store,
                version,
                f"generation {served.generation} with {served.checksum} is not the locked "
                f"{locked.generation} with {locked.checksum}",
            )


def served_as(listing: Mapping[str, Any], version: str, store: str) -> LockedVersion:
    """Return what a version is served as by this listing; raises LockMismatchError."""
    infos: list[Mapping[str, Any]] = listing["versions"]
    for info in infos:
        if info["version"] == version:
            return locked_version(info, version, store)
    there = ", ".join(info["version"] for info in infos) or "none"
    raise LockMismatchError(store, version, f"it is not there; versions there: {there}")


def locked_version(info: Mapping[str, Any], version: str, store: str) -> LockedVersion:
    """Return what a lock holds of one entry of a listing; raises LockMismatchError."""
    if not info.get("vector_space") or not info.get("checksum"):
        reason = "it does not say its vector space and checksum; export it again"
        raise LockMismatchError(store, version, reason)
    return LockedVersion(info["vector_space"], info["generation"], info["checksum"])
