"""Callers who take more than their share, each in a process of its own, until it is killed.

    python -m bench.attackers NAME PORT

A line is written once the attack is in place.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from bench.arrivals import LOST, Sender, request_of
from bench.bundles import USER_ID_STEP
from bench.exchange import JSON, headers_of
from bench.world import VERSION
from gkc.knowledge import SAFETENSORS

BEGUN: Final = b"begun\n"
BODY_BYTES: Final = 8_380_000
"""Just within what a body may have."""
HELD: Final = 300
"""Connections that are kept waiting."""
IDLE: Final = 1_000
NEVER_READING: Final = 100
HANGING_UP: Final = 60
HEAVY: Final = 12
HEAVY_USERS: Final = 2_000
CLOSED_LOOP: Final = 512
PATIENCE_SECONDS: Final = 60.0
IN_PLACE_SECONDS: Final = 1.5
"""All connections were answered once by then, and whoever was refused has asked again."""

Attack = Callable[[int], Generator[None, None, None]]
"""Attacks a port for as long as it is advanced; goes on once everything is in place."""


def body_of(rows: int, users: int | Sequence[int] = 0, **more: object) -> bytes:
    """Return a question for so many rows."""
    items: int | list[int] = list(range(rows)) if rows > 1 else 0
    return json.dumps({"u": users, "i": items, "v": VERSION, **more}).encode()


def repeated(head: str, piece: str, tail: str) -> bytes:
    """Return the largest body of one piece again and again."""
    count = (BODY_BYTES - len(head) - len(tail)) // (len(piece) + 1)
    return (head + ",".join([piece] * count) + tail).encode()


def version_names() -> bytes:
    """Name 20,000 versions."""
    return json.dumps({"u": 1, "i": 1, "v": [f"v{k}" for k in range(20_000)]}).encode()


def unknown_fields() -> bytes:
    """Name as many unknown fields as fit."""
    return b"{" + b",".join(b'"%x":0' % k for k in range(BODY_BYTES // 10)) + b"}"


def many_tensors() -> bytes:
    """Name 120,000 tensors of safetensors."""
    empty = {"dtype": "I64", "shape": [0], "data_offsets": [0, 0]}
    head = json.dumps({f"{k:x}": empty for k in range(120_000)}).encode()
    return len(head).to_bytes(8, "little") + head


def post(port: int, body: bytes, media_type: str = JSON, accept: str = JSON) -> int:
    """Ask, and read the whole answer; return its status, or that the connection was lost."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        try:
            connection.request("POST", "/knowledge", body, headers_of(media_type, accept))
            response = connection.getresponse()
            while response.read(1 << 20):
                pass
        except (OSError, HTTPException):
            return LOST
        return response.status


def posting(make: Callable[[], bytes], media_type: str, port: int) -> Generator[None, None, None]:
    """Send one body after the other."""
    body = make()
    while True:
        post(port, body, media_type)  # it may be refused before all of it is sent
        yield


def sending(head: bytes, piece: bytes, count: int, port: int) -> Generator[None, None, None]:
    """Send a head of so many pieces, again and again, as far as it is taken."""
    while True:
        with suppress(OSError), closing(connect(port)) as caller:
            caller.sendall(head)
            for _ in range(count):
                caller.sendall(piece)
            caller.recv(1)
        yield


def holding(
    count: int, first: bytes, port: int, *, then: bytes = b""
) -> Generator[None, None, None]:
    """Hold connections that send something first, and then so much each half second."""
    with connected(port, count) as held:
        for caller in held:
            caller.sendall(first)
        while True:
            yield
            time.sleep(0.5)
            for caller in held:
                with suppress(OSError):  # the service may have closed it
                    caller.sendall(then)


def never_reading(port: int) -> Generator[None, None, None]:
    """Ask for 500 rows as JSON, 4 MB, one after the other, and read no answer."""
    with connected(port, NEVER_READING, receives=4096) as held:
        for caller in held:
            caller.sendall(request_of(body_of(500), JSON))
            caller.recv(1, socket.MSG_PEEK)
        while True:
            yield
            time.sleep(0.5)


def reconnecting(port: int) -> Generator[None, None, None]:
    """Open connections and close them."""
    while True:
        connect(port).close()
        yield


def hanging_up(port: int) -> Generator[None, None, None]:
    """Ask for 3,000 rows on many connections, and close them before the answer is there."""
    request = request_of(body_of(3_000), JSON)
    while True:
        with connected(port, HANGING_UP) as callers:
            for caller in callers:
                caller.sendall(request)
            time.sleep(0.3)
        yield


def heavy(port: int) -> Generator[None, None, None]:
    """Ask for all users of many pairs at once, several times."""
    users = [k * USER_ID_STEP for k in range(HEAVY_USERS)]
    body = body_of(1, users, parts=["user"])
    with ThreadPoolExecutor(HEAVY) as pool:
        while True:
            asked = [pool.submit(post, port, body, JSON, SAFETENSORS) for _ in range(HEAVY)]
            wait(asked)
            yield


def asking_again(port: int) -> Generator[None, None, None]:
    """Ask for 500 rows on many connections, each again once it is answered."""
    sender = Sender([request_of(body_of(500), SAFETENSORS)], itertools.repeat(1e-4))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(sender.run, port, CLOSED_LOOP, seconds=3600)
        wait([asking], IN_PLACE_SECONDS)
        yield
        asking.result()


@contextmanager
def connected(port: int, count: int, receives: int | None = None) -> Iterator[list[socket.socket]]:
    """Connect so often, until the block ends."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(port, receives)) for _ in range(count)]


def connect(port: int, receives: int | None = None) -> socket.socket:
    """Connect, with a buffer of so many bytes for what comes."""
    caller = socket.socket()
    if receives:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    caller.settimeout(PATIENCE_SECONDS)
    caller.connect(("127.0.0.1", port))
    return caller


_HEAD: Final = b"POST /knowledge HTTP/1.1\r\nHost: x\r\n"
_ROWS: Final[Mapping[str, Any]] = {"head": f'{{"u": 1, "v": "{VERSION}", "i": [', "tail": "]}"}
ATTACKS: Final[Mapping[str, Attack]] = {
    "20,000 version names": partial(posting, version_names, JSON),
    "8 MB of unknown fields": partial(posting, unknown_fields, JSON),
    "120,000 tensors": partial(posting, many_tensors, SAFETENSORS),
    "8 MB of lists": partial(posting, partial(repeated, piece="[]", **_ROWS), JSON),
    "8 MB of 1e999": partial(posting, partial(repeated, piece="1e999", **_ROWS), JSON),
    "4 million integers": partial(posting, partial(repeated, piece="1", **_ROWS), JSON),
    "8 MB of objects": partial(posting, partial(repeated, '{"quadruples": [', "{}", "]}"), JSON),
    "300,000 headers": partial(sending, _HEAD, b"Accept:a\r\n" * 1000, 300),
    "a header of 100 MB": partial(sending, _HEAD + b"X-A: ", b"a" * 1_000_000, 100),
    "a URL of 60 MB": partial(sending, b"GET /", b"a" * 1_000_000, 60),
    "1,000 idle connections": partial(holding, IDLE, b""),
    "slow heads": partial(holding, HELD, _HEAD + b"X-A: ", then=b"a"),
    "stalled bodies": partial(holding, HELD, _HEAD + b"Content-Length: 9000\r\n\r\n{"),
    "100 callers who read nothing": never_reading,
    "connections opened and closed": reconnecting,
    "60 callers who hang up": hanging_up,
    "512 connections of 500 rows": asking_again,
    "12 questions for 2,000 heavy users": heavy,
}
"""By their names on the page."""


def main() -> None:
    """Attack until killed."""
    name, port = sys.argv[1:]
    attack = ATTACKS[name](int(port))
    next(attack)
    sys.stdout.buffer.write(BEGUN)
    sys.stdout.buffer.flush()
    for _ in attack:
        pass


if __name__ == "__main__":
    main()
