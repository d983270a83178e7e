"""The deadline around the store, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from gkc.answering.reader import GuardedReader
from gkc.errors import StoreUnavailableError
from gkc.http.metrics import Metrics
from gkc.store import GenerationManifest, open_reader
from tests.fakes import UnreliableReader
from tests.gkc.world import Worlds

IDS = np.array([7, 11], dtype=np.int64)


@pytest.fixture
def unreliable(worlds: Worlds) -> UnreliableReader:
    return UnreliableReader(open_reader(worlds.url))


@pytest.fixture
async def manifest(unreliable: UnreliableReader) -> GenerationManifest:
    catalogue = await unreliable.catalogue()
    assert catalogue is not None
    return await unreliable.manifest(catalogue.versions["half"].current)


OPERATIONS: list[tuple[str, Callable[[GuardedReader, GenerationManifest], Awaitable[Any]]]] = [
    ("catalogue", lambda r, _: r.catalogue()),
    ("manifest", lambda r, m: r.manifest(m.generation)),
    ("item_table", lambda r, m: r.item_table(m, 0)),
    ("fetch_users", lambda r, m: r.fetch_users(m, IDS)),
]


@pytest.mark.parametrize(("operation", "call"), OPERATIONS)
async def test_everything_is_passed_on_timed_and_counted(
    unreliable: UnreliableReader, manifest: GenerationManifest, operation: str, call: Any
) -> None:
    metrics = Metrics()
    reader = GuardedReader(unreliable, metrics, 1.0, 0.0)
    before = unreliable.calls[operation]
    await call(reader, manifest)
    assert unreliable.calls[operation] == before + 1
    metrics.add_tally()
    text = metrics.render(None, True).decode()
    assert f'gkc_store_duration_seconds_count{{operation="{operation}"}} 1.0' in text
    assert f'gkc_store_errors_total{{operation="{operation}"}} 1.0' not in text
    unreliable.failures[operation] = StoreUnavailableError("x", "refused")
    with pytest.raises(StoreUnavailableError):
        await call(reader, manifest)
    metrics.add_tally()
    text = metrics.render(None, True).decode()
    assert f'gkc_store_errors_total{{operation="{operation}"}} 1.0' in text
    await reader.close()
    assert unreliable.calls["close"] == 1


@pytest.mark.parametrize(
    ("operation", "call"),
    # An item table takes as long as it takes; the deadline of fetch_users is the store's own.
    [o for o in OPERATIONS if o[0] not in ("item_table", "fetch_users")],
)
async def test_a_read_that_hangs_is_given_up(
    unreliable: UnreliableReader, manifest: GenerationManifest, operation: str, call: Any
) -> None:
    reader = GuardedReader(unreliable, Metrics(), 0.02, 0.0)
    unreliable.gates[operation] = asyncio.Event()
    with pytest.raises(StoreUnavailableError, match="20 ms"):
        await call(reader, manifest)
