"""What ``GET /versions`` lists, read from a store itself, for commands."""

from __future__ import annotations

from gkc.center.listing import VersionList, version_list
from gkc.cli.options import read_store
from gkc.errors import GenerationCorruptError, GenerationNotFoundError
from gkc.settings import StoreSettings
from gkc.store import Catalogue, KnowledgeReader


def read_listing(settings: StoreSettings) -> VersionList:
    """List a store's versions; ready are those whose manifest can be read."""
    return read_store(settings, _read)


async def _read(reader: KnowledgeReader) -> VersionList:
    catalogue = await reader.catalogue() or Catalogue()
    readable = await _readable(reader, catalogue)
    return version_list(catalogue, lambda _, generation: generation in readable)


async def _readable(reader: KnowledgeReader, catalogue: Catalogue) -> set[str]:
    """Return the current generations whose manifest can be read from the store."""
    readable = set()
    for entry in catalogue.versions.values():
        try:
            await reader.manifest(entry.current)
        except (GenerationNotFoundError, GenerationCorruptError):
            continue  # told by its absence: the list says "ready": false
        readable.add(entry.current)
    return readable
