"""Worlds that many tests ask about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gkc.world import STRINGS, Worlds, make_world, versions_of


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a store that is not there yet."""
    return f"file:{tmp_path / 'store'}"


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """Export a world of each storage type; return them."""
    url = f"file:{tmp_path_factory.mktemp('worlds')}"
    made = [
        make_world("half", 1, "f16"),
        make_world("half-defaults", 2, "f16", defaults=True),
        make_world("full", 3, "f32"),
        make_world("full-defaults", 4, "f32", defaults=True),
        make_world("int8", 5, "int8"),
        make_world("int8-defaults", 6, "int8", defaults=True),
        make_world("wide", 7, "f16", dim=5),
        make_world("large", 8, "f16", value=300.0),
        make_world("larger", 9, "f32", value=1e5),
        make_world("largest", 10, "f32", value=1e30),
        *(make_world(versions_of(kinds)[0], 11, "f16", strings=kinds) for kinds in STRINGS),
        *(
            make_world(versions_of(kinds)[1], 12, "int8", defaults=True, strings=kinds)
            for kinds in STRINGS
        ),
    ]
    return Worlds(url, [world.publish(url, max_versions=len(made)) for world in made])
