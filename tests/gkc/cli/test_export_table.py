"""``gkc export-table``."""

from __future__ import annotations

from pathlib import Path

from tests.commands import Place
from tests.gkc.cli.in_process import done, gkc
from tests.gkc.world import make_world


def test_a_version(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path / 'store'}", "default")
    world = make_world().publish(place.url)
    ask = ("export-table", "--version", "v1", tmp_path / "out")
    said = done(*ask, place=place)
    assert said == (
        f"wrote v1 into {tmp_path / 'out'}: generation {world.generation}, 7 users, 10 items, "
        f"{len(world.pairs)} pairs\n"
    )
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["items.parquet", "user_categories.parquet", "users.parquet"]
    result = gkc(*ask, place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "is there already" in result.stderr


def test_what_is_not_there(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path / 'store'}", "default")
    assert "no store at" in gkc("export-table", "--version", "v", tmp_path, place=place).stderr
    make_world().publish(place.url)
    result = gkc("export-table", "--version", "v2", tmp_path / "out", place=place)
    assert result.returncode == 1
    assert "versions there: v1" in result.stderr
