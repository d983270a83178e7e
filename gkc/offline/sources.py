"""What rows come from: the generation of each version, as files tell it and as a lock ties it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gkc.errors import CommandError, VersionNotFoundError
from gkc.lock import Lock, LockedVersion
from gkc.offline.form import CHECKSUMS_KEY, SPACES_KEY, VERSIONS_KEY
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

    def metadata(self) -> dict[str, str]:
        """Return what a schema's metadata tells."""
        told = {
            VERSIONS_KEY: self.generations,
            SPACES_KEY: self.spaces,
            CHECKSUMS_KEY: self.checksums,
        }
        return {key: json.dumps(dict(by_version)) for key, by_version in told.items()}

    def lock(self, versions: Sequence[str], *, exact: bool) -> Lock:
        """Tie a model to some of the versions.

        Raises
        ------
        VersionNotFoundError
            If there is no such version.
        CommandError
            If a vector space is not known, or there are no versions.
        """
        if not versions:
            raise CommandError("a lock needs at least one version; name it")
        return Lock({version: self._locked(version) for version in versions}, exact)

    def _locked(self, version: str) -> LockedVersion:
        if version not in self.generations:
            raise VersionNotFoundError(version, list(self.generations))
        if version not in self.spaces:
            raise CommandError(
                f"the vector space of version {version!r} is not known; export it again, "
                "or lock only other versions"
            )
        return LockedVersion(
            self.spaces[version], self.generations[version], self.checksums[version]
        )
