"""What a store holds, seen around our code: names of keys or files, and how to harm them."""

from __future__ import annotations

import re
from pathlib import Path

import redis

from tests.commands import Place

GENERATION = re.compile(r"\d{10}-[0-9a-f]{8}")


def names(place: Place) -> list[str]:
    """List the names of all keys or files of a namespace."""
    if place.url.startswith("file:"):
        root = Path(place.url.removeprefix("file:"))
        return [str(p) for p in root.rglob("*") if p.is_file()]
    with redis.Redis.from_url(place.url) as client:
        return [k.decode() for k in client.scan_iter(match=f"*{place.namespace}*", count=1000)]


def generations(place: Place) -> set[str]:
    """Return the generations that any key or file belongs to."""
    return {found for name in names(place) for found in GENERATION.findall(name)}


def size_bytes(place: Place) -> int:
    """Return how many bytes the keys or files of a namespace take."""
    if place.url.startswith("file:"):
        return sum(Path(name).stat().st_size for name in names(place))
    with redis.Redis.from_url(place.url) as client:
        return sum(int(client.memory_usage(name, samples=0) or 0) for name in names(place))


def lose_users(place: Place, generation: str) -> None:
    """Delete where a generation's users are: all its buckets, or its file of users."""
    parts = [n for n in names(place) if generation in n]
    if place.url.startswith("file:"):
        (users,) = (n for n in parts if n.endswith("users.gkt"))
        Path(users).unlink()
        return
    with redis.Redis.from_url(place.url) as client:
        buckets = [n for n in parts if client.type(n) == b"hash" and ":u:" in n]
        assert buckets
        client.unlink(*buckets)
