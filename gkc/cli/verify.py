"""``gkc verify``: whether a generation is whole."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from gkc.cli.options import Store, load, read_store
from gkc.progress import progress
from gkc.settings import StoreSettings
from gkc.store import Catalogue, GenerationManifest, KnowledgeReader


def run(
    version: Annotated[str, typer.Option(metavar="V", help="The version to re-read.")],
    store: Store = None,
) -> None:
    """Re-read a version's generation: counts, checksums, markers.

    Exit status 1 if it is damaged.

    Example: gkc verify --version 20211220
    """
    settings = load(StoreSettings, store_url=store)
    manifest = read_store(settings, partial(_verify, version=version))
    totals = manifest.totals
    print(
        f"{version} is whole: generation {manifest.generation}, {totals.users:,} users, "
        f"{totals.items:,} items, {totals.user_categories:,} pairs, {totals.size_bytes:,} bytes"
    )


async def _verify(reader: KnowledgeReader, version: str) -> GenerationManifest:
    catalogue = await reader.catalogue() or Catalogue()
    manifest = await reader.manifest(catalogue.version(version).current)
    rows = manifest.totals.users + manifest.totals.items
    with progress(f"verifying {version}", rows) as advance:
        await reader.verify(manifest, advance)
    return manifest
