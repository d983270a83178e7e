"""Long work of a store in a thread that the end of a process does not wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def in_daemon_thread(work: Callable[[], ResultT]) -> ResultT:
    """Run blocking work, as `asyncio.to_thread`, which has the interpreter wait for it at its end.

    Whoever is cancelled meanwhile leaves the work to itself.
    """
    ended: Future[ResultT] = Future()

    def run() -> None:
        if not ended.set_running_or_notify_cancel():
            return
        try:
            ended.set_result(work())
        except BaseException as exc:  # noqa: BLE001  # raised where it is awaited
            ended.set_exception(exc)

    threading.Thread(target=run, name="gkc-store-work", daemon=True).start()
    return await asyncio.wrap_future(ended)
