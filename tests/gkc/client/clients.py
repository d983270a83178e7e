"""Both clients behind one blocking interface, so that each test is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gkc import AsyncClient, Client
from gkc.client import Knowledge

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
