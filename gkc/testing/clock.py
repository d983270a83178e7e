"""A host whose clock is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def clock_off(hours: float) -> Iterator[None]:
    """Let this process's clock of the day be so many hours ahead, or behind."""
    right = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + hours * 3600)
        yield
