"""Attacks are what their names say, and a service that is attacked answers others."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from bench import attackers
from bench.attackers import (
    ATTACKS,
    body_of,
    post,
    repeated,
    unknown_fields,
    version_names,
)
from bench.processes import Server
from bench.world import World


def test_bodies_are_as_large_as_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(json.loads(version_names())["v"]) == 20_000
    monkeypatch.setattr(attackers, "BODY_BYTES", 10_000)
    for body in (unknown_fields(), repeated('{"i": [', "1e999", "]}")):
        assert 6_000 < len(body) <= 10_000
        json.loads(body)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["20,000 version names", "slow heads", "300,000 headers", "connections opened and closed"],
)
def test_others_are_answered_beside_an_attack(name: str, served: tuple[World, Server]) -> None:
    port = served[1].port
    with closing(ATTACKS[name](port)) as attack:
        next(attack)
        next(attack)
        assert post(port, body_of(1)) == 200
