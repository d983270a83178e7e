"""CPU of a service's requests whose ids are strings, beside the same question of numbers.

1 user by 500 items, asked in JSON and answered in safetensors f16, in turns: int64, ASCII, and
strings of which each has a few characters beyond it.

    python -m bench.string_ids
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from typing import Final

import numpy as np
from numpy.random import Generator

from bench.processes import Server
from bench.stage import Stage, in_turns, ratios
from gkc.arrays import I64
from gkc.knowledge import SAFETENSORS
from gkc.rows import keys_of
from gkc.store import (
    GenerationSpec,
    ItemBlock,
    Retention,
    UserBlock,
    encode_vectors,
    hash_ids,
    open_publisher,
)
from gkc.strings import StringIds

USERS: Final = 5_000
ITEMS: Final = 200_000
DIM: Final = 64
STEP: Final = 7919
ROWS: Final = 500
QUESTIONS: Final = 1_000
"""CPU time is counted in hundredths of a second."""
ROUNDS: Final = 10
_HEADERS: Final = {"content-type": "application/json", "accept": SAFETENSORS}

Id = int | str
MADE: Final[dict[str, Callable[[str, int], Id]]] = {
    "int64": lambda kind, number: number,
    "ASCII": lambda kind, number: f"{kind}-{number:09d}",
    "beyond": lambda kind, number: f"{kind}-商品é-{number:06d}",
}
"""Of each version, the id that stands for a number."""


def main() -> None:
    """Publish a version of each, ask a service in turns, and print."""
    with Stage() as stage:
        store = f"file:{stage.folder / 'store'}"
        for version in MADE:
            publish(store, version)
        service = stage.serve(store)
        with closing(HTTPConnection("127.0.0.1", service.port)) as connection:
            measures = {
                version: partial(cpu_seconds, service, connection, bodies(version))
                for version in MADE
            }
            times = in_turns(measures, ROUNDS)
    for version, seconds in times.items():
        ratio = statistics.median(ratios(seconds, times["int64"]))
        print(
            f"{version}: {1e6 * statistics.median(seconds):.0f} us a request, {ratio:.2f} of int64"
        )


def publish(store: str, version: str) -> None:
    """Publish a version whose ids are all of one type."""
    rng = np.random.default_rng(0)
    users, user_names = ids_of(version, "user", USERS)
    items, item_names = ids_of(version, "item", ITEMS)
    spec = GenerationSpec(
        version=version,
        element_type="f16",
        dim=DIM,
        category_dim=DIM,
        users=USERS,
        items=ITEMS,
        user_categories=0,
        bundle="string_ids",
        fingerprint="",
        user_id_type="int64" if user_names is None else "string",
        item_id_type="int64" if item_names is None else "string",
        user_id_bytes=sum(map(len, user_names or ())),
        item_id_bytes=sum(map(len, item_names or ())),
    )
    no_items, no_pairs = np.zeros(ITEMS, dtype=np.int64), np.zeros(0, dtype=np.int64)
    has_none = np.zeros(ITEMS, dtype=np.bool_)
    offsets = np.zeros(USERS + 1, dtype=np.int64)
    with (
        closing(open_publisher(store)) as publisher,
        publisher.stage(spec, max_versions=len(MADE), resume=False) as staged,
    ):
        staged.sink.write_items(
            ItemBlock(items, vectors(rng, ITEMS), no_items, has_none, item_names)
        )
        staged.sink.write_users(
            UserBlock(users, vectors(rng, USERS), offsets, no_pairs, vectors(rng, 0), user_names)
        )
        publisher.publish(staged, staged.sink.seal(), Retention(grace_seconds=0.0))


def ids_of(version: str, kind: str, count: int) -> tuple[I64, list[bytes] | None]:
    """Return the ids of a kind in stored order, as blocks have them."""
    listed = [MADE[version](kind, k * STEP) for k in range(count)]
    names = [str(id_).encode() for id_ in listed] if version != "int64" else None
    keys = np.array(listed, dtype=np.int64) if names is None else keys_of(StringIds.of(names))
    order = np.argsort(hash_ids(keys))
    return keys[order], None if names is None else [names[k] for k in order.tolist()]


def vectors(rng: Generator, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return stored vectors."""
    return encode_vectors(rng.standard_normal((count, DIM), dtype=np.float32), "f16")


def bodies(version: str) -> list[bytes]:
    """Draw questions, of the same numbers in each version."""
    rng, made = np.random.default_rng(1), MADE[version]
    return [
        json.dumps(
            {
                "u": made("user", int(rng.integers(USERS)) * STEP),
                "i": [made("item", k * STEP) for k in rng.integers(0, ITEMS, ROWS).tolist()],
                "v": version,
                "dtype": "f16",
            },
            ensure_ascii=False,
        ).encode()
        for _ in range(QUESTIONS)
    ]


def cpu_seconds(service: Server, connection: HTTPConnection, asked: Sequence[bytes]) -> float:
    """Ask, and return the CPU time that the service takes a request.

    Raises
    ------
    SystemExit
        If one is refused.
    """
    before = service.cpu_seconds()
    for body in asked:
        connection.request("POST", "/knowledge", body, _HEADERS)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"{response.status}: {answer[:500]!r}")
    return (service.cpu_seconds() - before) / len(asked)


if __name__ == "__main__":
    main()
