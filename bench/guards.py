"""What each guard adds to a request: CPU time of its functions, by themselves, in this process.

    python -m bench.guards [--save]

About 10 seconds.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import typer
import uvloop
from starlette.types import Receive, Scope, Send

from bench.options import Rounds, Save
from bench.results import Figure, Section, tell
from bench.world import VERSION, Shape, questions
from gkc.answering.deadlines import Deadlines
from gkc.http.access import Guarded
from gkc.http.admission import Admission
from gkc.http.api_keys import line_of, new_key, read_keys
from gkc.http.deadlines import deadline_of
from gkc.http.decoding import decode_json
from gkc.http.followed_files import FollowedFiles
from gkc.http.limits import LIMITS, refuse_many_values, refuse_many_versions
from gkc.http.wire import GatheringProtocol
from gkc.store.backends.redis.client import pack
from gkc.store.backends.redis.pipe import _Call, _Piece
from gkc.store.codec import RecordCodec, UserBlock

SHAPE: Final = Shape()
MOST_ROWS: Final = 10_000
ROWS: Final = (1, 50, 500, MOST_ROWS)
CALLS: Final = 500
HEAD: Final = {
    b"host": b"127.0.0.1",
    b"content-type": b"application/json",
    b"accept": b"application/x-safetensors",
    b"content-length": b"3000",
}

Call = Callable[[], Awaitable[object]]
"""Does what is measured, once."""

METHOD: Final = f"""\
CPU time of the functions that guard a request, each called {CALLS} times in turn in this process, \
less what the same takes without the guard. *Record*: CRC-32 over generation, user id and record \
({SHAPE.pairs} pairs, D = {SHAPE.dim}, f16) of the one user. *Token*: a read of Redis is packed \
with a random PING behind it, and its answers' types and the token are checked. *Head*: number and \
size of the headers. *Values*: of the JSON, which are counted from 64 KiB on. *Versions*: how many \
are named. *Admission*: of a request that is alone in its turn of the event loop. \
*Deadline*: read from a header, watched, and taken back. *Key*: the SHA-256 of the key that a \
caller shows, looked up. What the kernel, Redis and the parser do more because of a \
guard is not in it: `bench.against` sets whole services beside each other."""


def main(*, rounds: Rounds = 15, save: Save = False) -> None:
    """Time every guard, and tell."""
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(measure(guards(Path(folder)), rounds))
    figures = [Figure(name, values, "us") for name, values in found.items()]
    title = "What the guards of a request take"
    tell(Section(module="bench.guards", title=title, method=METHOD, figures=figures), save=save)


async def measure(
    calls: Mapping[str, tuple[Call, Call]], rounds: int
) -> dict[str, Sequence[float]]:
    """Return what each guard takes in each round, microseconds, less what is done without it."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (guarded, bare) in calls.items():
            found[name].append(1e6 * (await seconds_of(guarded) - await seconds_of(bare)))
    return {**found}


async def seconds_of(call: Call) -> float:
    """Return the CPU time of a call."""
    began = time.process_time()
    for _ in range(CALLS):
        await call()
    return (time.process_time() - began) / CALLS


def guards(folder: Path) -> dict[str, tuple[Call, Call]]:
    """Prepare every guard, and the same without it, by its name on the page."""
    found = {
        "record: its checksum": (plain(record_check()), nothing),
        "token: a read of Redis": (plain(guarded_read), plain(bare_read)),
        "head: its size": (plain(head_check()), nothing),
        "admission: a turn of the loop": admission(),
        "deadline: read, set and taken back": (plain(deadline()), nothing),
        "key: who calls": key_check(folder),
    }
    question = decode_json(f'{{"u": 1, "i": 1, "v": "{VERSION}"}}'.encode(), MOST_ROWS)
    found["versions: counted"] = (plain(partial(refuse_many_versions, question)), nothing)
    for rows in ROWS:
        (body,) = questions(SHAPE, rows, 1, seed=1)
        text = json.dumps(body).encode()
        counting = partial(refuse_many_values, text, MOST_ROWS)
        found[f"values: counted, B = {rows:,}"] = (plain(counting), nothing)
    return found


async def nothing() -> None:
    """Do nothing."""


def plain(function: Callable[[], object]) -> Call:
    """Return what calls a function that waits for nothing."""

    async def call() -> None:
        function()

    return call


def record_check() -> Callable[[], None]:
    """Return what checks the record of a user."""
    codec = RecordCodec("0001-guards", "f16", SHAPE.dim, SHAPE.dim)
    vectors = np.ones((SHAPE.pairs + 1, 2 * SHAPE.dim), dtype=np.uint8)
    user = np.ones(1, dtype=np.int64)
    pairs = np.arange(SHAPE.pairs, dtype=np.int64)
    offsets = np.array([0, SHAPE.pairs], dtype=np.int64)
    (record,) = codec.pack(UserBlock(user, vectors[:1], offsets, pairs, vectors[1:]))
    return partial(codec.check_joined, user, record)


_COMMAND: Final = ("HMGET", b"gkc:default:g:0001-guards:u:123", b"12345678")
_NOBODY: Final[Any] = None
"""Who waits for the answers."""


def guarded_read() -> None:
    """Pack a read with its token, and check what comes back."""
    piece = _Piece([_Call([_COMMAND], _NOBODY)])
    piece.answers = [[b"record"], piece.token]
    piece.require_ours()


def bare_read() -> None:
    """Pack a read."""
    b"".join([pack(_COMMAND)])


def head_check() -> Callable[[], None]:
    """Return what checks the head of a request, all of which came at once."""
    protocol = SimpleNamespace(
        _limits=LIMITS, url=b"/knowledge", headers=list(HEAD.items()), _received=300, _head_start=0
    )
    return partial(GatheringProtocol._check_head, protocol)  # type: ignore[arg-type]


def admission() -> tuple[Call, Call]:
    """Return a turn of the event loop that begins one request, and one that just begins it."""
    judge = Admission().judge

    async def guarded() -> None:
        judge(int(HEAD[b"content-length"]), 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def bare() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    return guarded, bare


def deadline() -> Callable[[], None]:
    """Return what begins and ends work for a request that says how long it waits."""
    deadlines = Deadlines(10.0, "GKC_REQUEST_TIMEOUT_MS")
    headers = [*HEAD.items(), (b"x-request-timeout-ms", b"1000")]
    scope: Scope = {"type": "http", "headers": headers}

    def work() -> None:
        with deadline_of(scope, deadlines):
            pass

    return work


def key_check(folder: Path) -> tuple[Call, Call]:
    """Return a request to an application that asks for a key, and to one that does not."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    key, file = new_key(), folder / "keys"
    file.write_text(line_of("bench", key) + "\n", encoding="ascii")
    asking = Guarded(app, FollowedFiles([file], partial(read_keys, file)), needs_certificate=False)
    headers = [*HEAD.items(), (b"authorization", b"Bearer " + key.encode())]
    scope: dict[str, Any] = {"type": "http", "path": "/knowledge", "headers": headers}
    wait: Any = asyncio.Event().wait
    return partial(asking, scope, wait, wait), partial(app, scope, wait, wait)


if __name__ == "__main__":
    typer.run(main)
