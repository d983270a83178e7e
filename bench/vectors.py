"""Single questions to a service, and every vector of a version for a peer to hold as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import redis
from numpy.typing import NDArray

from bench.processes import Server
from bench.tables import read_vectors
from bench.world import VERSION, World, export_tables
from gkc.knowledge import SAFETENSORS
from gkc.safetensors import load

JSON: Final = "application/json"
KEYS_AT_ONCE: Final = 10_000
PLAIN_NAMES: Final = {"item": "i", "user": "u", "user_category": "uc"}
"""What keys of the plain service call a part."""
Tensors = dict[str, NDArray[Any]]


def answer_of(service: Server, body: Mapping[str, Any]) -> Tensors:
    """Ask a service once; return the tensors of its answer, by name."""
    tensors, _ = load(post(service, body, SAFETENSORS))
    return tensors


def post(
    server: Server, body: Mapping[str, Any], accept: str = JSON, path: str = "/knowledge"
) -> bytes:
    """Ask a server once, in JSON, on a connection of its own; return the answer's bytes.

    Raises
    ------
    SystemExit
        If it refuses.
    """
    headers = {"Content-Type": JSON, "Accept": accept}
    request = Request(server.url + path, json.dumps(body).encode(), headers)
    try:
        with urlopen(request) as answer:
            content: bytes = answer.read()
    except HTTPError as exc:
        raise SystemExit(f"{server.name} answered {exc.code}: {exc.read()[:500]!r}") from None
    return content


def load_plain_keys(world: World) -> None:
    """Write every vector under the key that the plain service reads, beside the version itself."""
    with TemporaryDirectory() as scratch, redis.Redis.from_url(world.url) as client:
        tables = export_tables(world.url, Path(scratch) / "tables")
        for part, name in PLAIN_NAMES.items():
            columns, vectors = read_vectors(tables, part)
            ids = zip(*(column.tolist() for column in columns.values()), strict=True)
            names = [":".join((VERSION, name, *map(str, key))) for key in ids]
            for start in range(0, len(names), KEYS_AT_ONCE):
                some = slice(start, start + KEYS_AT_ONCE)
                client.mset(dict(zip(names[some], map(bytes, vectors[some]), strict=True)))
