"""Records that were checked are not checked again; any other is."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from gkc.errors import LayoutError
from gkc.offline.checked_once import CheckedOnce
from gkc.store import GenerationManifest, open_reader
from tests.gkc.world import STRANGERS, USERS, Worlds

IDS = np.array([*USERS, STRANGERS[0], 1], dtype=np.int64)


def read(worlds: Worlds) -> tuple[GenerationManifest, list[bytes | None]]:
    async def ask() -> tuple[GenerationManifest, list[bytes | None]]:
        reader = open_reader(worlds.url)
        manifest = await reader.manifest(worlds["half"].generation)
        fetched = await reader.fetch_users(manifest, IDS)
        records = [None if record is None else bytes(record) for record in fetched]
        await reader.close()
        return manifest, records

    return asyncio.run(ask())


@pytest.mark.parametrize("user", range(len(USERS)))
def test_each_record_is_checked_at_first(worlds: Worlds, user: int) -> None:
    manifest, records = read(worlds)
    whole = records[user]
    assert whole is not None
    records[user] = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(LayoutError, match="is damaged"):
        CheckedOnce(manifest).check_all(IDS, records)


def test_none_is_checked_again(worlds: Worlds) -> None:
    manifest, records = read(worlds)
    checks = CheckedOnce(manifest)
    checks.check_all(IDS, records)
    checks.check_all(IDS, [b"nobody looks at it"] * len(IDS))
    with pytest.raises(LayoutError):
        checks.check_all(np.array([STRANGERS[1]]), [b"this one is new"])
