"""Stores in this process, asked in a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gkc import AsyncClient, Client
from gkc.client.knowledge import Knowledge
from gkc.client.local import AsyncLocalSource, LocalSource
from gkc.client.question import question_of
from tests.gkc.world import World

SECONDS = 30.0
"""Longer than anything takes that is to be answered."""
ONE = {"u": 7, "i": [11, 12], "v": "v1"}


def ask(source: LocalSource, body: Mapping[str, Any], seconds: float = SECONDS) -> Knowledge:
    return source.knowledge(question(body), deadline(seconds))


def question(body: Mapping[str, Any]) -> Any:
    parts, dtype = body.get("parts"), body.get("dtype", "f32")
    return question_of(body["u"], body["i"], body.get("c"), body["v"], parts, dtype)


def deadline(seconds: float) -> float:
    return time.monotonic() + seconds


def local_source(url: str, **options: Any) -> LocalSource:
    source = Client(url, **options)._source
    assert isinstance(source, LocalSource)
    return source


def async_local_source(url: str, **options: Any) -> AsyncLocalSource:
    source = AsyncClient(url, **options)._source
    assert isinstance(source, AsyncLocalSource)
    return source


@contextmanager
def opened(url: str, **options: Any) -> Iterator[LocalSource]:
    source = local_source(url, **options)
    try:
        yield source
    finally:
        source.close()


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until, f"{holds} does not hold"
        time.sleep(0.01)


def answered(source: LocalSource, world: World) -> Callable[[], bool]:
    return lambda: ask(source, ONE).versions == {"v1": world.generation}


def row_bytes(world: World, user: int, items: list[int]) -> bytes:
    rows = [world.row(user, item, None)[0] for item in items]
    return np.array(rows, dtype=np.float32).tobytes()


def mapped(url: str) -> list[str]:
    """Return what this process has mapped of a `file:` store."""
    folder = url.removeprefix("file:")
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if folder in line]
