"""Every vector of a version, asked of the service that serves it, for peers to hold as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import redis
from numpy.typing import NDArray

from bench.bundles import USER_ID_STEP
from bench.processes import Server
from bench.world import VERSION, Shape, World
from gkc.arrays import I64
from gkc.knowledge import SAFETENSORS
from gkc.safetensors import load

JSON: Final = "application/json"
USERS_AT_ONCE: Final = 200
ITEMS_AT_ONCE: Final = 10_000
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


def every_vector(shape: Shape, service: Server) -> dict[str, tuple[tuple[I64, ...], NDArray[Any]]]:
    """Ask for all that a shape holds: of each stored part the keys and their vectors.

    Keys are columns of ids, (n,) int64; vectors are (n, D) float16.
    """
    users, categories = np.arange(shape.users) * USER_ID_STEP, np.arange(shape.pairs)
    pairs = np.repeat(users, shape.pairs), np.tile(categories, shape.users)

    def vectors(part: str, at_once: int, **ids: I64) -> tuple[tuple[I64, ...], NDArray[Any]]:
        columns = tuple(ids.values())
        pieces = []
        for start in range(0, len(columns[0]), at_once):
            some = {name: ids[name][start : start + at_once].tolist() for name in ids}
            body = {"u": 0, "i": 0, **some, "v": VERSION, "parts": [part], "layout": "factored"}
            pieces.append(answer_of(service, body)[part])
        return columns, np.concatenate(pieces)

    return {
        "item": vectors("item", ITEMS_AT_ONCE, i=np.arange(shape.items)),
        "user": vectors("user", USERS_AT_ONCE, u=users),
        "user_category": vectors(
            "user_category", USERS_AT_ONCE * shape.pairs, u=pairs[0], c=pairs[1]
        ),
    }


def load_plain_keys(world: World, service: Server) -> None:
    """Write every vector under the key that the plain service reads, beside the version itself."""
    with redis.Redis.from_url(world.url) as client:
        for part, (columns, vectors) in every_vector(world.shape, service).items():
            ids = zip(*(column.tolist() for column in columns), strict=True)
            names = [":".join((VERSION, PLAIN_NAMES[part], *map(str, key))) for key in ids]
            for start in range(0, len(names), ITEMS_AT_ONCE):
                some = slice(start, start + ITEMS_AT_ONCE)
                client.mset(dict(zip(names[some], map(bytes, vectors[some]), strict=True)))
