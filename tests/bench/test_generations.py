"""What is published without a bundle is served: numbers with their pairs, and strings."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import generations
from bench.bundles import USER_ID_STEP
from bench.generations import Ids, publish, publish_numbers
from bench.world import VERSION
from gkc import Client
from tests.bench.loads import TINY


def test_the_ids_of_synthetic_bundles_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "USERS_AT_ONCE", 2)
    users = [USER_ID_STEP * k for k in range(TINY.users)]
    with Client(publish_numbers(f"file:{tmp_path}", TINY)) as client:
        found = client.knowledge(u=users, i=[0] * len(users), v=VERSION)
    assert found.status.tolist() == [[1, 1, 1, 1]] * len(users)


def test_strings_are_found(tmp_path: Path) -> None:
    names = ["é", "b"]
    publish(f"file:{tmp_path}", "texts", TINY, Ids.texts(names), Ids.texts(names))
    with Client(f"file:{tmp_path}") as client:
        found = client.knowledge(u="é", i=["b", "no"], v="texts")
    assert found.status[:, :2].tolist() == [[1, 1], [1, 0]]
