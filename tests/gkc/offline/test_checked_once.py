"""Records that were checked are not checked again; any other is."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from msgspec.structs import replace

from gkc.errors import LayoutError
from gkc.offline.checked_once import CheckedOnce
from gkc.store import GenerationManifest, open_reader
from gkc.strings import Ids, StringIds
from gkc.testing.samples import make_sample
from tests.gkc.world import STRANGERS, USERS, Worlds, named

IDS = np.array([*USERS, STRANGERS[0], 1], dtype=np.int64)
NAMES = StringIds.of_text([str(named("user", user, ("user",))) for user in IDS.tolist()])
OF_BOTH = pytest.mark.parametrize(("version", "ids"), [("half", IDS), ("user", NAMES)])


def read(worlds: Worlds, version: str, ids: Ids) -> tuple[GenerationManifest, list[bytes | None]]:
    async def ask() -> tuple[GenerationManifest, list[bytes | None]]:
        reader = open_reader(worlds.url)
        manifest = await reader.manifest(worlds[version].generation)
        fetched = await reader.fetch_users(manifest, ids)
        records = [None if record is None else bytes(record) for record in fetched]
        await reader.close()
        return manifest, records

    return asyncio.run(ask())


@OF_BOTH
@pytest.mark.parametrize("user", range(len(USERS)))
def test_each_record_is_checked_at_first(worlds: Worlds, user: int, version: str, ids: Ids) -> None:
    manifest, records = read(worlds, version, ids)
    whole = records[user]
    assert whole is not None
    records[user] = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(LayoutError, match="is damaged"):
        CheckedOnce(manifest).check_all(ids, records)


@OF_BOTH
def test_none_is_checked_again(worlds: Worlds, version: str, ids: Ids) -> None:
    manifest, records = read(worlds, version, ids)
    checks = CheckedOnce(manifest)
    checks.check_all(ids[:-1], records[:-1])
    checks.check_all(ids[:-1], [b"nobody looks at it"] * (len(ids) - 1))
    with pytest.raises(LayoutError):
        checks.check_all(ids[-1:], [b"this one is new"])


def test_of_two_users_of_one_key_both_are_checked(worlds: Worlds) -> None:
    manifest, _ = read(worlds, "user", NAMES)
    sample = make_sample(users=40, id_type="string")
    assert sample.users.names is not None
    names, records = StringIds.of(sample.users.names), sample.records(manifest.generation)
    first = int(np.flatnonzero(np.diff(sample.users.ids) == 0)[0])
    checks = CheckedOnce(replace(manifest, spec=sample.spec))
    checks.check_all(names[first : first + 1], records[first : first + 1])
    with pytest.raises(LayoutError, match="is damaged"):
        checks.check_all(names[first + 1 : first + 2], [bytes(len(records[first + 1]))])
