"""Stores for tests: where they are, what a version in them holds, and what lies in them raw."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
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
from gkc.strings import Ids, IdType, StringIds

Id = int | str
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
    users: dict[Id, F32]
    items: dict[Id, tuple[F32, Id | None]]
    pairs: dict[tuple[Id, Id], F32]
    raw: list[bytes]


def stored(place: Place, version: str, users: Sequence[Id], items: Sequence[Id]) -> Stored:
    """Read some users, all their pairs, and some items of a version."""
    return asyncio.run(_stored(place, version, users, items))


async def _stored(place: Place, version: str, users: Sequence[Id], items: Sequence[Id]) -> Stored:
    reader = open_reader(place.url, place.namespace)
    try:
        catalogue = await reader.catalogue()
        assert catalogue is not None
        manifest = await reader.manifest(catalogue.version(version).current)
        spec = manifest.spec
        kind, dim, category_dim = spec.element_type, spec.dim, spec.category_dim
        ids, item_ids = _column(users, spec.user_id_type), _column(items, spec.item_id_type)
        records = await reader.fetch_users(manifest, ids)
        block = manifest.records.unpack(ids, records)
        table = await reader.items_of(manifest, item_ids)
        rows = table.rows_of(item_ids)
        found = table.take(rows[rows >= 0])
        categories = table.dictionary()
    finally:
        await reader.close()
    k_u = decode_vectors(block.k_u, kind, dim)
    k_uc = decode_vectors(block.k_uc, kind, category_dim)
    k_i = decode_vectors(found.k_i, kind, dim)
    owners = [u for u, n in zip(users, np.diff(block.pair_offsets), strict=True) for _ in range(n)]

    def category(code: int) -> Id:
        return categories[code].decode() if spec.category_id_type == "string" else code

    return Stored(
        manifest,
        {u: k_u[k] for k, u in enumerate(users) if records[k] is not None},
        {
            i: (k_i[k], category(int(found.categories[k])) if found.has_category[k] else None)
            for k, i in enumerate(i for i, row in zip(items, rows, strict=True) if row >= 0)
        },
        {
            (u, category(c)): k_uc[k]
            for k, (u, c) in enumerate(zip(owners, block.categories.tolist(), strict=True))
        },
        # Without the checksum, which is also over the name of the generation.
        [bytes(r[4:]) for r in records if r is not None],
    )


def _column(ids: Sequence[Id], id_type: IdType) -> Ids:
    if id_type == "int64":
        return np.array(ids, dtype=np.int64)
    return StringIds.of_text([str(id_) for id_ in ids])


def catalogue_json(place: Place) -> str:
    """The catalogue as text, to be compared before and after."""
    publisher = open_publisher(place.url, place.namespace)
    try:
        sealed = json.loads(publisher.catalogue().to_bytes())
        return json.dumps(sealed["content"], sort_keys=True)
    finally:
        publisher.close()
