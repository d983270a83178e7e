"""The service inside this process, without sockets: of whichever checkout runs this file.

    python -P in_process.py STORE VERSION

Each line of standard input asks for one measurement and is answered by a line that begins with
``found``. Imports nothing of ``bench``, of which another checkout has another one.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import process_time
from types import CodeType, FrameType
from typing import Any, Final

import uvloop

import gkc
from gkc.settings import Settings
from gkc.store import open_reader

SAFETENSORS: Final = "application/x-safetensors"
MOST_ROWS: Final = 10_000


@dataclass
class Calls:
    """Python functions entered; a coroutine that goes on after waiting is entered again."""

    ours: Counter[CodeType] = field(default_factory=Counter)
    others: int = 0

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """Count a call; for `sys.setprofile`."""
        if event != "call" or frame.f_code.co_filename == __file__:
            return
        if frame.f_code.co_filename.startswith(str(Path(gkc.__file__).parent)):
            self.ours[frame.f_code] += 1
        else:
            self.others += 1


async def seconds(service: Any, users: Any, bodies: Sequence[bytes]) -> float:  # noqa: ANN401
    """Return the median CPU time from a decoded question to its answer."""
    answering = _door("answering").Answering(service.serving, users)
    times = []
    for question in [_door("decoding").decode_json(body, MOST_ROWS) for body in bodies]:
        began = process_time()
        await answering.answer(question)
        times.append(process_time() - began)
    return statistics.median(times)


async def calls(service: Any, _: Any, bodies: Sequence[bytes]) -> dict[str, Any]:  # noqa: ANN401
    """Count functions that the last of some requests enters, by name; the others warm up."""
    *warm, last = bodies
    for body in warm:
        await ask(service, body)
    counted = Calls()
    sys.setprofile(counted.note)
    try:
        await ask(service, last)
    finally:
        sys.setprofile(None)
    ours = [
        (f"{Path(code.co_filename).stem}.{code.co_qualname}", count)
        for code, count in counted.ours.most_common()
    ]
    return {"ours": ours, "others": counted.others}


MEASURES: Final[dict[str, Callable[..., Awaitable[Any]]]] = {"seconds": seconds, "calls": calls}


def _door(module: str) -> Any:  # noqa: ANN401
    """Return a module of the HTTP door or behind it; other checkouts have it elsewhere."""
    for package in ("answering", "http"):
        with suppress(ModuleNotFoundError):
            return import_module(f"gkc.{package}.{module}")
    return import_module(f"gkc.service.{module}")


def _users(reader: Any) -> Any:  # noqa: ANN401
    """Return what `Answering` reads users by: before format 2, a look-up around the reader."""
    try:
        lookup = import_module("gkc.service.lookup")
    except ModuleNotFoundError:
        return reader
    without = import_module("gkc.service.acceleration").accelerate()
    if without:
        raise SystemExit(f"the other checkout answers by numpy alone: {without}")
    return lookup.KnowledgeLookup(reader)


async def ask(app: Any, body: bytes, accept: str = SAFETENSORS) -> float:  # noqa: ANN401
    """Ask an application as a server does; return the CPU seconds that it took.

    Raises
    ------
    SystemExit
        If it does not answer 200.
    """
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/knowledge",
        "raw_path": b"/knowledge",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"accept", accept.encode())],
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:  # noqa: ANN401
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    began = process_time()
    await app(scope, receive, send)
    cpu_seconds = process_time() - began
    if statuses != [200]:
        raise SystemExit(f"answered {statuses}: {body[:200]!r}")
    return cpu_seconds


async def main(store: str, version: str) -> None:
    """Measure what is asked for until standard input ends."""
    reader = open_reader(store)
    users = _users(reader)
    # A load on a busy machine takes longer than callers wait; an earlier commit ignores the name.
    settings = Settings(store_url=store, store_timeout_ms=60_000)
    service = _door("app").Service(settings, reader)
    async with service.lifespan():
        await service.serving.resolve_anew([version])  # waits until it is loaded
        for line in sys.stdin:
            asked = json.loads(line)
            bodies = [json.dumps(body).encode() for body in asked["bodies"]]
            measured = await MEASURES[asked["measure"]](service, users, bodies)
            print("found", json.dumps(measured), flush=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
