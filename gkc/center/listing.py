"""The list of versions, as ``GET /versions`` and ``gkc versions`` tell it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict

from gkc.errors import CatalogueLostError
from gkc.store import Catalogue, IdTypes


class VersionInfo(Struct, frozen=True, omit_defaults=True):
    """What ``GET /versions`` tells of one version."""

    version: str
    generation: Annotated[str, Meta(description="What it serves, until it is published anew.")]
    previous: Annotated[str | None, Meta(description="The generation that a rollback returns to.")]
    published_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    users: Annotated[int, Meta(description="Users that have a vector.")]
    items: Annotated[int, Meta(description="Items that have a vector.")]
    user_categories: Annotated[int, Meta(description="Pairs of user and category that have one.")]
    dim: Annotated[int, Meta(description="Numbers of a user's and of an item's vector.")]
    category_dim: Annotated[int, Meta(description="Numbers of a pair's vector.")]
    id_types: Annotated[IdTypes, Meta(description="Whether ids are integers or strings.")]
    dtype: Annotated[str, Meta(description="Element type of the stored vectors.")]
    bytes: Annotated[int, Meta(description="What its generation takes in the store.")]
    pinned: Annotated[bool, Meta(description="Whether no export may evict it.")]
    ready: Annotated[bool, Meta(description="Whether this very generation is served by now.")]
    bundle: Annotated[str, Meta(description="The name of the bundle it was exported from.")]
    checksum: Annotated[
        str, Meta(description="SHA-256 of its manifest, which holds those of its data.")
    ]
    # What the bundle tells of where its vectors come from; what it does not tell is left out.
    compatible_with: list[dict[str, Any]] = []
    tasks: list[dict[str, Any]] = []
    task_weights: list[Any] | dict[str, Any] = []
    vector_space: str | None = None
    data_until: str | None = None
    run: dict[str, str] = {}


class VersionList(Struct, frozen=True):
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
        origin = asdict(summary.pop("origin"))
        versions.append(
            VersionInfo(
                version=version,
                generation=entry.current,
                previous=entry.previous,
                published_at=generation.published_at,
                pinned=entry.pinned,
                ready=is_ready(version, entry.current),
                **summary,
                **{name: told for name, told in origin.items() if told},
            )
        )
    return VersionList(max_versions=catalogue.max_versions, versions=versions)
