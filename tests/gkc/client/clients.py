"""Both clients behind one blocking interface, so that each test is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gkc import AsyncClient, Client
from gkc.client import Knowledge
from tests.gkc.world import ITEMS, STRANGERS, Id, World

KINDS = ("blocking", "async")


class _InLoop:
    """An `AsyncClient` and the loop that it belongs to."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self._runner = runner
        self._client = client

    def knowledge(self, **question: Any) -> Knowledge:
        return self._runner.run(self._client.knowledge(**question))

    def versions(self) -> dict[str, Any]:
        return self._runner.run(self._client.versions())


@contextmanager
def opened(kind: str, url: Any, **options: Any) -> Iterator[Client | _InLoop]:
    """Open a client of one kind."""
    if kind == "blocking":
        with Client(url, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        client_in_loop = AsyncClient(url, **options)
        try:
            yield _InLoop(runner, client_in_loop)
        finally:
            runner.run(client_in_loop.close())


Open = Callable[..., Any]


# ---- what they answer

WIDE = 20.0
"""Seconds within which a stall of the machine fails nothing."""
ALL_ITEMS = [*ITEMS, *STRANGERS]


def expected(
    world: World, asked: Sequence[tuple[Id, Id, Id | None]], parts: Sequence[str], dtype: str
) -> tuple[bytes, list[list[int]]]:
    """Return the bytes of the rows that are asked for, and their statuses."""
    told = [world.row(user, item, category, parts) for user, item, category in asked]
    kind = np.float16 if dtype == "f16" else np.float32
    return np.array([row for row, _ in told], dtype=np.float32).astype(kind).tobytes(), [
        status for _, status in told
    ]
