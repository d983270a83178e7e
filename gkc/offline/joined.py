"""What joined rows came from, as their files tell it: what a model that learns from them needs."""

from __future__ import annotations

import json
from pathlib import Path

from gkc.errors import TableFileError
from gkc.lock import Lock, LockedVersion
from gkc.offline.folders import visible_files
from gkc.offline.form import CHECKSUMS_KEY, SPACES_KEY, VERSIONS_KEY
from gkc.offline.parquet import schema_metadata


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
    if not joined.exists():
        raise TableFileError(str(joined), "there is no such file or folder")
    for path in visible_files(joined) if joined.is_dir() else [joined]:
        for version, source in _sources(path).items():
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


def _sources(path: Path) -> dict[str, LockedVersion]:
    told = schema_metadata(path)
    if not {VERSIONS_KEY, SPACES_KEY, CHECKSUMS_KEY} <= told.keys():
        raise TableFileError(str(path), "tells of no generation; gkc join writes files that do")
    generations, spaces, checksums = (
        json.loads(told[key]) for key in (VERSIONS_KEY, SPACES_KEY, CHECKSUMS_KEY)
    )
    for version in generations:
        if version not in spaces:
            problem = f"the vector space of version {version!r} is not known; export it again"
            raise TableFileError(str(path), problem)
    return {v: LockedVersion(spaces[v], g, checksums[v]) for v, g in generations.items()}
