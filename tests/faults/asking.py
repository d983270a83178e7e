"""What is asked of a service whose store fails; what it answers 200 is compared with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from tests.gkc.world import ITEMS, World


def ask(client: httpx.Client, world: World, user: int, **options: Any) -> httpx.Response:
    """Ask for the rows of one user; return what is answered, having looked at it if it is 200."""
    body = {"u": user, "i": list(ITEMS), "v": world.version, **options}
    response = client.post("/knowledge", json=body)
    if response.status_code == 200:
        told = response.json()
        rows = [world.row(user, item, None) for item in ITEMS]
        knowledge = np.array(told["knowledge"], dtype=np.float32)
        assert knowledge.tobytes() == np.array([row for row, _ in rows], np.float32).tobytes()
        assert told["status"] == [status for _, status in rows]
    else:
        assert response.status_code == 503
        assert response.headers["retry-after"]
    return response


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
