"""``gkc join``: what people are told, and runs that are ended in between."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gkc.offline.folders import TEMPORARY
from gkc.offline.parquet import lock
from tests.commands import Place, start
from tests.gkc.cli.in_process import done, gkc
from tests.gkc.offline.tables import draw, expected, read, told, write
from tests.gkc.world import ITEMS, USERS, World, make_world

MANY_ROWS = 400_000


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"file:{tmp_path / 'store'}", "default")


@pytest.fixture
def world(place: Place) -> World:
    return make_world(defaults=True).publish(place.url)


def test_a_file(place: Place, world: World, tmp_path: Path) -> None:
    table = draw(300)
    write(table, tmp_path / "in")
    ask = ("join", "--version", "v1", "--dtype", "f16", tmp_path / "in", tmp_path / "out")
    said = done(*ask, place=place)
    assert told(read(tmp_path / "out")) == expected(table, [world], "f16")
    assert f"joined 300 rows of 1 file into {tmp_path / 'out'} in " in said
    assert f"  version v1: generation {world.generation}\n" in said
    found, default = (sum(s[0] == code for s in expected(table, [world])[1]) for code in (1, 2))
    assert f"  user: {found} found, {default} default\n" in said
    assert "; 1 file finished before" in done(*ask, place=place)


def test_parts_prefix_and_a_column_of_versions(place: Place, world: World, tmp_path: Path) -> None:
    table = draw(100, versions=("v1",))
    write(table, tmp_path / "in" / "a")
    options = ("--parts", "user_item, user", "--prefix", "k_", "--version-column", "version")
    done("join", *options, tmp_path / "in", tmp_path / "out", place=place)
    found = read(tmp_path / "out" / "a")
    assert told(found, "k_") == expected(table, [world], parts=("user", "user_item"))


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ((), 2, "name either --version or --version-column"),
        (("--version", "v1", "--version-column", "version"), 2, "name either"),
        (("--version", "v1", "--max-reads-per-second", "0"), 2, "no whole number of at least 1"),
        (("--version", "v2"), 1, "gkc: version 'v2' is not in the store; versions there: v1"),
        (("--version", "v1", "--dtype", "f64"), 2, "dtype 'f64' is none of f32, f16"),
        (("--version", "v1", "--parts", "users"), 2, "'users' is no part"),
        (("--version", "v1", "--max-reads-per-second", "5"), 1, "store behind a network"),
    ],
)
def test_what_cannot_be_asked(
    place: Place, world: World, tmp_path: Path, options: Any, status: int, said: str
) -> None:
    write(draw(5), tmp_path / "in")
    result = gkc("join", *options, tmp_path / "in", tmp_path / "out", place=place)
    assert result.returncode == status
    assert said in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()
    if status == 1:
        assert result.stderr.count("\n") == 1


def test_a_store_that_is_not_there(place: Place, tmp_path: Path) -> None:
    write(draw(5), tmp_path / "in")
    result = gkc("join", "--version", "v1", tmp_path / "in", tmp_path / "out", place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "no store at" in result.stderr


def write_much(folder: Path, files: int) -> pa.Table:
    rng = np.random.default_rng(0)
    ids = {"user_id": rng.choice(USERS, MANY_ROWS), "item_id": rng.choice(ITEMS, MANY_ROWS)}
    table = pa.table(ids)
    folder.mkdir()
    for k in range(files):
        pq.write_table(table, folder / f"{k}.parquet")
    return table


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on(
    place: Place, world: World, tmp_path: Path, number: signal.Signals
) -> None:
    table = write_much(tmp_path / "in", 6)
    ask = ("join", "--version", "v1", tmp_path / "in", tmp_path / "out")
    process = start("gkc", *ask, place=place, stderr=subprocess.PIPE)
    while not any((tmp_path / "out").glob("*.parquet")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in err
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}
    wait_for_the_last_process(tmp_path / "out")
    said = done(*ask, place=place)
    assert f"; {len(finished)} file" in said
    for path, changed in finished.items():
        assert path.stat().st_mtime_ns == changed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{k}.parquet" for k in range(6)
    ]
    rows = (tmp_path / "out" / "5.parquet", tmp_path / "out" / "0.parquet")
    assert read(rows[0]).equals(
        read(rows[1]).replace_schema_metadata(read(rows[0]).schema.metadata)
    )
    assert read(rows[0]).num_rows == table.num_rows


def wait_for_the_last_process(folder: Path) -> None:
    """Wait until nobody writes there: the processes of one that was killed end by themselves."""
    for temporary in folder.glob(f".*{TEMPORARY}"):
        while (fd := lock(temporary)) is None:
            time.sleep(0.01)
        os.close(fd)
