"""A few signals at random moments; the whole is `python -m tests.faults.signals_at_random`."""

from __future__ import annotations

import random
from pathlib import Path

from tests.commands import Place
from tests.exporter.bundles import build
from tests.faults.signals_at_random import strike_at_random


def test_no_accepted_request_fails_and_nothing_is_left(
    redis_server_url: str, redis_namespace: str, tmp_path: Path
) -> None:
    bundle = build(tmp_path / "bundle").path
    place = Place(redis_server_url, redis_namespace)
    found = strike_at_random(place, bundle, tmp_path, 1, random.Random(), ["serving"])
    assert found.faults() == []
