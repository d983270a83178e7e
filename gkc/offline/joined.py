"""What joined rows came from, as their files tell it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gkc.errors import TableFileError
from gkc.offline.folders import visible_files
from gkc.offline.form import CHECKSUMS_KEY, SPACES_KEY, VERSIONS_KEY
from gkc.offline.parquet import schema_metadata


@dataclass(frozen=True, slots=True)
class Source:
    """What a version's rows came from.

    Attributes
    ----------
    generation : str
    vector_space : str or None
        None where it was not known.
    checksum : str
        Of the generation's manifest.
    """

    generation: str
    vector_space: str | None
    checksum: str


def read_sources(joined: Path) -> dict[str, Source]:
    """Read what the rows of ``gkc join`` came from, by version.

    Parameters
    ----------
    joined : Path
        A file, or a folder of them.

    Raises
    ------
    TableFileError
        If a file was not joined, files came from different generations of one version, or there is
        none.
    """
    found: dict[str, Source] = {}
    for path in visible_files(joined) if joined.is_dir() else [joined]:
        told = schema_metadata(path)
        if not {VERSIONS_KEY, SPACES_KEY, CHECKSUMS_KEY} <= told.keys():
            raise TableFileError(str(path), "tells of no generation; gkc join writes files that do")
        spaces, checksums = json.loads(told[SPACES_KEY]), json.loads(told[CHECKSUMS_KEY])
        for version, generation in json.loads(told[VERSIONS_KEY]).items():
            source = Source(generation, spaces.get(version), checksums[version])
            if found.setdefault(version, source) != source:
                raise TableFileError(
                    str(path),
                    f"came from {generation} of version {version!r}, other files from "
                    f"{found[version].generation}; join anew, with --restart",
                )
    if not found:
        raise TableFileError(str(joined), "has no joined rows")
    return found
