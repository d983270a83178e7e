"""Stores for tests: where they are, what a version in them holds, and what lies in them raw."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import redis

from gkc.store import (
    GenerationManifest,
    decode_vectors,
    open_publisher,
    open_reader,
)

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """A store and a namespace of it that only this test uses."""

    url: str
    namespace: str

    @property
    def environment(self) -> dict[str, str]:
        return {"GKC_STORE_URL": self.url, "GKC_NAMESPACE": self.namespace}

    def data(self) -> dict[str, bytes]:
        """All files or keys that hold rows or manifests of generations, read around the store."""
        if self.url.startswith("file:"):
            root = Path(self.url.removeprefix("file:")) / self.namespace / "generations"
            files = [p for p in root.rglob("*") if p.is_file()]
            return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}
        with redis.Redis.from_url(self.url) as client:
            keys = [k for k in client.scan_iter(f"*{self.namespace}*") if b":g:" in k]
            return {k.decode(): client.dump(k) or b"" for k in keys}

    def catalogue_is_empty(self) -> bool:
        publisher = open_publisher(self.url, self.namespace)
        try:
            catalogue = publisher.catalogue()
        finally:
            publisher.close()
        return not catalogue.versions and not catalogue.generations


@dataclass
class Stored:
    """What a version's served generation holds, decoded."""

    manifest: GenerationManifest
    users: dict[int, F32]
    items: dict[int, tuple[F32, int | None]]
    pairs: dict[tuple[int, int], F32]
    raw: list[bytes]


def stored(place: Place, version: str, users: list[int], items: list[int]) -> Stored:
    """Read some users, all their pairs, and some items of a version."""
    return asyncio.run(_stored(place, version, users, items))


async def _stored(place: Place, version: str, users: list[int], items: list[int]) -> Stored:
    reader = open_reader(place.url, place.namespace)
    try:
        catalogue = await reader.catalogue()
        assert catalogue is not None
        manifest = await reader.manifest(catalogue.version(version).current)
        spec = manifest.spec
        kind, dim, category_dim = spec.element_type, spec.dim, spec.category_dim
        ids = np.array(users, dtype=np.int64)
        records = await reader.fetch_users(manifest, ids)
        block = manifest.records.unpack(ids, records)
        table = await reader.items_of(manifest, np.array(items, dtype=np.int64))
        rows = table.rows_of(np.array(items, dtype=np.int64))
        found = table.take(rows[rows >= 0])
    finally:
        await reader.close()
    k_u = decode_vectors(block.k_u, kind, dim)
    k_uc = decode_vectors(block.k_uc, kind, category_dim)
    k_i = decode_vectors(found.k_i, kind, dim)
    owners = np.repeat(ids, np.diff(block.pair_offsets))
    return Stored(
        manifest,
        {u: k_u[k] for k, u in enumerate(users) if records[k] is not None},
        {
            i: (k_i[k], int(found.categories[k]) if found.has_category[k] else None)
            for k, i in enumerate(found.ids.tolist())
        },
        {
            (int(u), int(c)): k_uc[k]
            for k, (u, c) in enumerate(zip(owners, block.categories, strict=True))
        },
        # Without the checksum, which is also over the name of the generation.
        [bytes(r[4:]) for r in records if r is not None],
    )


def catalogue_json(place: Place) -> str:
    """The catalogue as text, to be compared before and after."""
    publisher = open_publisher(place.url, place.namespace)
    try:
        sealed = json.loads(publisher.catalogue().to_bytes())
        return json.dumps(sealed["content"], sort_keys=True)
    finally:
        publisher.close()
