"""Generations that disappear under a request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gkc.errors import GenerationCorruptError, GenerationNotFoundError
from gkc.store import GenerationManifest
from gkc.strings import Ids
from tests.gkc.http.running import QUESTION, ask, running, status, store_errors, unreliable
from tests.gkc.world import USERS, make_world


async def test_a_deleted_generation_is_answered_from_the_current_one(url: str) -> None:
    make_world("v1", 1).publish(url)
    async with unreliable(url, refresh_ms=3_600_000, store_timeout_ms=2000) as (
        client,
        _,
        reader,
    ):
        new = make_world("v1", 2).publish(url, keep_previous=0)
        # The file store keeps deleted tables mapped; a key store says that they are gone.
        reader.failures_once["fetch_users"] = GenerationCorruptError("g", "bucket 3 is missing")
        response = await ask(client, QUESTION)
        assert response.status_code == 200, response.text
        assert response.json()["versions"] == {"v1": new.generation}


async def test_so_is_one_whose_successor_is_deleted_too(url: str) -> None:
    worlds = [make_world("v1", 1).publish(url)]
    async with unreliable(url, refresh_ms=3_600_000, store_timeout_ms=60_000) as (
        client,
        _,
        reader,
    ):
        original = reader.fetch_users

        async def fetch_users(manifest: GenerationManifest, users: Ids) -> Any:
            if QUESTION["u"] in users.tolist() and len(worlds) < 3:
                worlds.append(make_world("v1", len(worlds) + 1).publish(url, keep_previous=0))
                raise GenerationNotFoundError(manifest.generation)
            return await original(manifest, users)

        reader.fetch_users = fetch_users  # type: ignore[method-assign]
        response = await ask(client, QUESTION)
        assert response.status_code == 200, response.text
        assert response.json()["versions"] == {"v1": worlds[2].generation}


async def test_damage_in_the_current_generation_is_503_and_counted(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (client, _, reader):
        reader.failures["fetch_users"] = GenerationCorruptError("g", "bucket 3 is missing")
        response = await ask(client, QUESTION)
        assert response.status_code == 503
        assert "bucket 3 is missing" in response.json()["detail"]
        assert await store_errors(client, "fetch_users") == 1
        del reader.failures["fetch_users"]
        assert await status(client) == 200


async def test_others_have_their_turn_between_the_portions_of_a_large_question(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_world("v1").publish(url)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running(url) as (client, _):
        question = {"u": list(USERS), "i": 11, "v": "v1"}
        counted = []
        for portion_bytes in (1 << 20, 1):
            monkeypatch.setattr("gkc.center.plan._PORTION_BYTES", portion_bytes)
            before, others = turns, asyncio.create_task(take_turns())
            await ask(client, question)
            others.cancel()
            counted.append(turns - before)
    whole, by_portions = counted
    assert by_portions >= whole + len(USERS)
