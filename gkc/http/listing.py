"""The list of versions, as ``GET /versions`` and ``gkc versions`` tell it."""

from __future__ import annotations

from collections.abc import Callable
from operator import not_
from typing import Any

from msgspec.structs import asdict
from pydantic import BaseModel, Field

from gkc.errors import CatalogueLostError
from gkc.store import Catalogue


class VersionInfo(BaseModel):
    """What ``GET /versions`` tells of one version."""

    version: str
    generation: str
    previous: str | None
    published_at: str
    users: int
    items: int
    user_categories: int
    dim: int
    category_dim: int
    dtype: str
    bytes: int
    pinned: bool
    ready: bool
    bundle: str
    # What the bundle tells of where its vectors come from; what it does not tell is left out.
    compatible_with: list[dict[str, Any]] = Field(default=[], exclude_if=not_)
    tasks: list[dict[str, Any]] = Field(default=[], exclude_if=not_)
    task_weights: list[Any] | dict[str, Any] = Field(default=[], exclude_if=not_)
    vector_space: str | None = Field(default=None, exclude_if=not_)
    data_until: str | None = Field(default=None, exclude_if=not_)
    run: dict[str, str] = Field(default={}, exclude_if=not_)


class VersionList(BaseModel):
    """The body of ``GET /versions``, newest version first."""

    max_versions: int
    versions: list[VersionInfo]


def version_list(catalogue: Catalogue | None, is_ready: Callable[[str, str], bool]) -> VersionList:
    """Describe the versions of a catalogue.

    Parameters
    ----------
    catalogue : Catalogue or None
        None lists nothing.
    is_ready : callable
        Told a version and its current generation, says whether it can be answered.
    """
    catalogue = catalogue or Catalogue()
    versions = []
    for version in catalogue.newest_first():
        entry = catalogue.versions[version]
        generation = catalogue.generations[entry.current]
        if generation.summary is None:
            raise CatalogueLostError(version, f"it does not describe {entry.current}")
        summary = asdict(generation.summary)
        versions.append(
            VersionInfo(
                version=version,
                generation=entry.current,
                previous=entry.previous,
                published_at=generation.published_at,
                pinned=entry.pinned,
                ready=is_ready(version, entry.current),
                **asdict(summary.pop("origin")),
                **summary,
            )
        )
    return VersionList(max_versions=catalogue.max_versions, versions=versions)
