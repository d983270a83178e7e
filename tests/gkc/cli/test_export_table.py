"""``gkc export-table``."""

from __future__ import annotations

import signal
import subprocess
import sys
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


TERMINATED = """
import signal, sys
def terminate(event, args):
    if event in ("os.listdir", "os.scandir") and ".gkc-export-table" in str(args[0]):
        signal.raise_signal(signal.SIGTERM)  # when all is written, and has not its name yet
sys.addaudithook(terminate)
from gkc.__main__ import main
main()
"""


def test_sigterm_leaves_no_unfinished_folder(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path / 'store'}", "default")
    make_world().publish(place.url)
    ask = ["export-table", "--version", "v1", "--store", place.url, str(tmp_path / "made" / "out")]
    ended = subprocess.run(
        [sys.executable, "-c", TERMINATED, *ask], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")
    assert [*(tmp_path / "made").iterdir()] == []


def test_what_is_not_there(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path / 'store'}", "default")
    assert "no store at" in gkc("export-table", "--version", "v", tmp_path, place=place).stderr
    make_world().publish(place.url)
    result = gkc("export-table", "--version", "v2", tmp_path / "out", place=place)
    assert result.returncode == 1
    assert "versions there: v1" in result.stderr
