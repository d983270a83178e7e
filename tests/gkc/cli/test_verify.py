"""``gkc verify``."""

from __future__ import annotations

from pathlib import Path

from tests.commands import Place
from tests.gkc.cli.in_process import done, gkc
from tests.gkc.world import make_world


def test_a_whole_generation(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path}", "default")
    world = make_world().publish(place.url)
    told = done("verify", "--version", "v1", place=place)
    assert world.generation in told
    assert "7 users, 10 items" in told


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path}", "default")
    world = make_world().publish(place.url)
    (table,) = (tmp_path / "default" / "generations" / world.generation).glob("items*")
    table.chmod(0o644)
    raw = bytearray(table.read_bytes())
    raw[-1] ^= 1
    table.write_bytes(raw)
    result = gkc("verify", "--version", "v1", place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert world.generation in result.stderr
    assert "export its version again" in result.stderr


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    result = gkc("verify", "--version", "v1", place=Place(f"file:{tmp_path / 'x'}", "default"))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"no store at {tmp_path / 'x'};" in result.stderr


def test_an_unknown_version(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path}", "default")
    assert gkc("verify", "--version", "v1", place=place).returncode == 1
    make_world().publish(place.url)
    result = gkc("verify", "--version", "v2", place=place)
    assert result.returncode == 1
    assert "versions there: v1" in result.stderr
