"""What is served is re-read for as long as it is, whatever goes wrong with that."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
import structlog

from gkc.answering import scrubbing
from gkc.errors import GenerationCorruptError
from gkc.store import table_file
from tests.fakes import UnreliableReader
from tests.gkc.http.running import answers, eventually, status, store_errors, unreliable
from tests.gkc.world import make_world


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_PAUSE_SECONDS", 0.005)


async def _reads(reader: UnreliableReader, times: int) -> None:
    """Wait until so many readings were begun."""
    reader.calls["scrub"] = min(reader.calls["scrub"], 1)

    async def is_read() -> bool:
        return reader.calls["scrub"] >= times

    await eventually(is_read)


async def test_damage_is_told_and_counted_once_and_answered_no_more(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (client, _, reader):
        await _reads(reader, 3)
        reader.gates["manifest"] = asyncio.Event()
        with structlog.testing.capture_logs() as told:
            reader.failures_once["scrub"] = GenerationCorruptError("g", "its index differs")
            await eventually(lambda: _is_refused(client))
        assert "generation_damaged" in [line["event"] for line in told]
        assert await store_errors(client, "scrub") == 1
        reader.gates["manifest"].set()
        await eventually(lambda: _is_served(client))
        await _reads(reader, 3)


async def test_what_is_no_damage_ends_nothing(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (client, _, reader):
        with structlog.testing.capture_logs() as told:
            reader.failures_once["scrub"] = OSError("too many open files")
            await _reads(reader, 5)
        assert "generation_not_scrubbed" in [line["event"] for line in told]
        assert await status(client) == 200
        assert await store_errors(client, "scrub") == 0


async def test_what_somebody_wrote_to_is_read_at_once(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "_PIECE_PAUSE_SECONDS", 1000)
    monkeypatch.setattr(table_file, "_PIECE_BYTES", 8)
    world = make_world("v1").publish(url)
    path = tmp_path / "store/default/generations" / world.generation / "items.gkt"
    async with unreliable(url) as (client, _, reader):
        await _reads(reader, 1)  # which goes on for ever
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)  # in a vector, which no look-up can tell
            file.write(b"\xff")
        await eventually(lambda: _is_refused(client))
        assert await store_errors(client, "scrub") == 1


async def test_what_was_replaced_is_not_read_to_its_end(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "_PIECE_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(table_file, "_PIECE_BYTES", 1)
    make_world("v1", 1).publish(url)
    async with unreliable(url) as (client, _, reader):
        await _reads(reader, 1)  # which goes on for a minute
        new = make_world("v1", 2).publish(url)
        await eventually(answers(client, new))
        await _reads(reader, 2)


async def _is_refused(client: httpx.AsyncClient) -> bool:
    return await status(client) == 503


async def _is_served(client: httpx.AsyncClient) -> bool:
    return await status(client) == 200
