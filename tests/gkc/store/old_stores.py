"""Stores as gkc wrote them in format 1: `data/format1.json`, made by gkc 0.1.0 at 8b4fcbb.

It holds versions v1, with a former generation, and v2, once as the keys of a namespace in Redis and
once as the files of an embedded store. Every value is base64 of zlib's compression.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import redis

GENERATIONS = 3
_DATA = Path(__file__).parent / "data" / "format1.json"


def put_old_keys(client: redis.Redis, namespace: str) -> None:
    """Write the keys of format 1 into a namespace."""
    for name, value in _load("redis").items():
        key = f"gkc:{namespace}:{name}"
        if isinstance(value, dict):
            client.hset(key, mapping={_raw(field): _raw(one) for field, one in value.items()})
        else:
            client.set(key, _raw(value))


def put_old_files(root: Path) -> None:
    """Write the files of format 1 into a namespace's directory."""
    for name, value in _load("file").items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_raw(value))


def _load(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_DATA.read_text())[kind]
    return found


def _raw(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
