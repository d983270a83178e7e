"""Damaged tables and records under a running service: 503 in every form, and never its end."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from gkc.store.ids import hash_id
from gkc.store.table_format import PAGE_BYTES, TableHeader
from tests.commands import Place, http_once, service
from tests.gkc.http.running import SAFETENSORS
from tests.gkc.world import ITEMS, USERS, World, make_world

FORMS: list[tuple[dict[str, object], str]] = [
    ({"i": ITEMS[0]}, "application/json"),
    ({"i": [*ITEMS, *range(200)]}, SAFETENSORS),
    ({"i": list(ITEMS), "dtype": "f16", "parts": ["user_category"]}, SAFETENSORS),
    ({"i": list(ITEMS), "layout": "factored"}, SAFETENSORS),
]


def answers(url: str) -> set[int]:
    """Ask in every form; return the statuses, having looked at the problems."""
    codes = set()
    for asked, accept in FORMS:
        body = {"u": USERS[0], "v": "v1"} | asked
        response = http_once.post(
            f"{url}/knowledge", json=body, headers={"accept": accept}, timeout=10
        )
        codes.add(response.status_code)
        if response.status_code != 200:
            problem = response.json()
            assert response.headers["content-type"] == "application/problem+json"
            if problem["type"] != "urn:gkc:problem:version-not-ready":  # it is being loaded anew
                assert problem["type"] == "urn:gkc:problem:store-unavailable"
                assert "is damaged: " in problem["detail"]
            assert response.headers["retry-after"]
    return codes


# ---- tables in files


def starts_beyond(raw: bytearray, header: TableHeader) -> None:
    section = header.sections["starts"]
    raw[section.offset : section.offset + section.length] = b"\xff" * section.length


def offsets_beyond(raw: bytearray, header: TableHeader) -> None:
    section = header.sections["offsets"]
    raw[section.offset : section.offset + section.length] = b"\x7f" * section.length


def offsets_of_others(raw: bytearray, header: TableHeader) -> None:
    section = header.sections["offsets"]
    for at in range(section.offset, section.offset + section.length, 8):
        raw[at] ^= 8


def bits_of_every_record(raw: bytearray, header: TableHeader) -> None:
    section = header.sections["records"]
    for at in range(section.offset + 8, section.offset + section.length, 8):
        raw[at] ^= 1


def cut_short(raw: bytearray, _: TableHeader) -> None:
    del raw[PAGE_BYTES + 1 :]


def more_pairs_under_a_good_checksum(raw: bytearray, header: TableHeader) -> None:
    for start, end, user in records(raw, header):
        raw[start + 4] += 1
        seed = zlib.crc32(user.to_bytes(8, "little", signed=True), zlib.crc32(generation(header)))
        raw[start : start + 4] = zlib.crc32(raw[start + 4 : end], seed).to_bytes(4, "little")


def generation(header: TableHeader) -> bytes:
    return header.generation.encode()


def records(raw: bytearray, header: TableHeader) -> list[tuple[int, int, int]]:
    """Return where each record begins and ends in the file, and whose it is."""
    base = header.sections["records"].offset
    section = header.sections["offsets"]
    ends = memoryview(bytes(raw[section.offset : section.offset + section.length])).cast("q")
    users = sorted(USERS, key=hash_id)
    return [(base + ends[k], base + ends[k + 1], user) for k, user in enumerate(users)]


DAMAGES: list[tuple[str, Callable[[bytearray, TableHeader], None]]] = [
    ("items", starts_beyond),
    ("items", cut_short),
    ("users", starts_beyond),
    ("users", offsets_beyond),
    ("users", offsets_of_others),
    ("users", bits_of_every_record),
    ("users", more_pairs_under_a_good_checksum),
    ("users", cut_short),
]


def test_damaged_files_are_503_until_they_are_whole(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path / 'store'}", "default")
    world = make_world().publish(place.url)
    folder = tmp_path / "store/default/generations" / world.generation
    with service(place) as url:
        assert answers(url) == {200}
        for kind, damage in DAMAGES:
            path = folder / f"{kind}.gkt"
            whole = path.read_bytes()
            raw = bytearray(whole)
            damage(raw, TableHeader.from_page(whole[:PAGE_BYTES]))
            overwrite(path, bytes(raw))
            assert answers(url) == {503}, (kind, damage)
            overwrite(path, whole)
            wait_until_it_is_served(url)


def wait_until_it_is_served(url: str) -> None:
    """Wait for what was found damaged, and is loaded anew."""
    deadline = time.monotonic() + 30
    while answers(url) != {200}:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def overwrite(path: Path, raw: bytes) -> None:
    """Change a file in place, as whoever has mapped it sees."""
    with path.open("r+b") as file:
        file.write(raw)
        file.truncate()


# ---- records in Redis


def a_flipped_bit(own: bytes, _: bytes) -> bytes:
    return own[:9] + bytes((own[9] ^ 1,)) + own[10:]


def somebody_else_s(_: bytes, other: bytes) -> bytes:
    return other


def no_bytes(_: bytes, __: bytes) -> bytes:
    return b""


def half(own: bytes, _: bytes) -> bytes:
    return own[: len(own) // 16 * 8]


@pytest.mark.redis
def test_damaged_records_are_503_until_they_are_whole(
    redis_server_url: str, redis_namespace: str, tmp_path: Path
) -> None:
    place = Place(redis_server_url, redis_namespace)
    world = make_world().publish(place.url, place.namespace)
    env = {"GKC_MIRROR_DIR": str(tmp_path / "mirror"), "GKC_USER_CACHE_MB": "0"}
    with redis.Redis.from_url(place.url) as client, service(place, env=env) as url:
        own, other = (find(client, world, user) for user in USERS[:2])
        assert answers(url) == {200}
        for damage in (a_flipped_bit, somebody_else_s, no_bytes, half):
            client.hset(own[0], own[1], damage(own[2], other[2]))
            assert answers(url) == {503}, damage
            client.hset(*own)
            assert answers(url) == {200}, damage


def find(client: redis.Redis, world: World, user: int) -> tuple[bytes, bytes, bytes]:
    """Return the bucket, the field and the record of a user."""
    field = user.to_bytes(8, "little", signed=True)
    for key in client.scan_iter(match=f"*{world.generation}*", count=1000):
        record = client.hget(key, field) if client.type(key) == b"hash" else None
        if isinstance(record, bytes):
            return key, field, record
    raise AssertionError(f"no record of user {user}")
