"""What rows come from: the generation of each version, as files tell it and as a lock ties it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gkc.errors import CommandError, TableFileError, VersionNotFoundError
from gkc.lock import Lock, LockedVersion
from gkc.offline.folders import visible_files
from gkc.offline.form import CHECKSUMS_KEY, SPACES_KEY, VERSIONS_KEY
from gkc.offline.parquet import schema_metadata
from gkc.store import GenerationManifest


@dataclass(frozen=True, slots=True)
class Sources:
    """Generations that rows come from; can be sent to other processes.

    Attributes
    ----------
    generations, spaces, checksums : mapping of str to str
        By version; a vector space only where it is known.
    """

    generations: Mapping[str, str]
    spaces: Mapping[str, str]
    checksums: Mapping[str, str]

    @classmethod
    def of(cls, manifests: Mapping[str, GenerationManifest]) -> Sources:
        """Return what these manifests tell, by version."""
        spaces = {v: manifest.spec.origin.vector_space for v, manifest in manifests.items()}
        return cls(
            {v: manifest.generation for v, manifest in manifests.items()},
            {v: space for v, space in spaces.items() if space is not None},
            {v: manifest.checksum for v, manifest in manifests.items()},
        )

    @classmethod
    def read(cls, path: Path) -> Sources:
        """Return what a file of joined rows tells.

        Raises
        ------
        TableFileError
            If it tells nothing.
        """
        told = schema_metadata(path)
        try:
            by_version = [
                msgspec.json.decode(told[key], type=dict[str, str])
                for key in (VERSIONS_KEY, SPACES_KEY, CHECKSUMS_KEY)
            ]
        except (KeyError, msgspec.DecodeError) as exc:
            problem = (
                "tells of no generation; gkc join writes files that do, and a file written anew by "
                "another tool loses it: lock before"
            )
            raise TableFileError(str(path), problem) from exc
        return cls(*by_version)

    def metadata(self) -> dict[str, str]:
        """Return what a schema's metadata tells."""
        told = {
            VERSIONS_KEY: self.generations,
            SPACES_KEY: self.spaces,
            CHECKSUMS_KEY: self.checksums,
        }
        return {key: msgspec.json.encode(by_version).decode() for key, by_version in told.items()}

    def lock(self, versions: Sequence[str], *, exact: bool) -> Lock:
        """Tie a model to some of the versions.

        Raises
        ------
        CommandError
            If there are no versions.
        CommandError, VersionNotFoundError
            As `locked`.
        """
        if not versions:
            raise CommandError("a lock needs at least one version; name it")
        return Lock({version: self.locked(version) for version in versions}, exact)

    def locked(self, version: str) -> LockedVersion:
        """Return what a lock holds of a version.

        Raises
        ------
        VersionNotFoundError
            If there is no such version.
        CommandError
            If its vector space is not known.
        """
        if version not in self.generations:
            raise VersionNotFoundError(version, list(self.generations))
        if version not in self.spaces:
            raise CommandError(
                f"the vector space of version {version!r} is not known; export it again"
            )
        return LockedVersion(
            self.spaces[version], self.generations[version], self.checksums[version]
        )


def lock_of_joined(joined: Path, *, exact: bool = False) -> Lock:
    """Lock what the rows of ``gkc join`` came from.

    Parameters
    ----------
    joined : Path
        A file, or a folder of them.
    exact : bool
        Whether all must have come from the very generations, and not only from equal spaces.

    Raises
    ------
    TableFileError
        If a file was not joined, files came from different vector spaces of one version (or, for an
        exact lock, generations), a vector space is not known, or there are no rows.

    Notes
    -----
    Where files came from several generations of one space, as those of several days do, the newest
    of them is locked.
    """
    locked: dict[str, LockedVersion] = {}
    for path in visible_files(joined):
        sources = Sources.read(path)
        for version in sources.generations:
            try:
                source = sources.locked(version)
            except CommandError as exc:
                raise TableFileError(str(path), str(exc)) from exc
            other = locked.setdefault(version, source)
            if other.vector_space != source.vector_space or (exact and other != source):
                raise TableFileError(
                    str(path),
                    f"came from {source.generation} of version {version!r}, of vector space "
                    f"{source.vector_space}, other files from {other.generation}, of "
                    f"{other.vector_space}; join them anew, with --restart",
                )
            locked[version] = max(other, source, key=lambda of: of.generation)
    if not locked:
        raise TableFileError(str(joined), "has no joined rows")
    return Lock(locked, exact)
