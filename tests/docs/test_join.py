"""docs/join.md: its commands and its Python, as pasted, in a folder that has what they name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from tests.commands import BIN
from tests.gkc.offline.tables import draw, read, write
from tests.gkc.world import make_world
from tests.redis_server import RedisServer

PAGE = (Path(__file__).parents[2] / "docs" / "join.md").read_text()
COMMANDS = re.findall(r"^    (gkc .*)$", PAGE, flags=re.MULTILINE)
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
VERSION = "20211220"
REDIS = "redis://127.0.0.1:6379"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_world(VERSION).publish(f"file:{tmp_path / 'gkc-data'}")
    write(draw(1000), tmp_path / "train.parquet")
    of_days = draw(100).append_column("model_version", pa.array([VERSION] * 100))
    for day in ("1", "2"):
        write(of_days, tmp_path / "days" / f"day={day}" / "part-0.parquet")
    return tmp_path


def run(folder: Path, *words: str | Path) -> str:
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
        "GKC_MIRROR_DIR": str(folder / "mirrors"),
    }
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_and_programs(folder: Path) -> None:
    local = [line for line in COMMANDS if REDIS not in line]
    assert len(local) == 3
    told = [run(folder, *line.split()) for line in local]
    assert "joined 1,000 rows of 1 file into joined.parquet" in told[0]
    assert "joined 200 rows of 2 files into joined-days" in told[1]
    assert "7 users, 10 items" in told[2]
    assert len(PROGRAMS) == 3
    for program in PROGRAMS:
        path = folder / "program.py"
        path.write_text(program)
        assert run(folder, sys.executable, path)


def test_the_metadata_that_it_names(folder: Path) -> None:
    run(folder, *COMMANDS[0].split())
    kept = read(folder / "joined.parquet").schema.metadata
    named = set(re.findall(r"`(gkc\.\w+)`", PAGE))
    assert {key.decode() for key in kept} == named


@pytest.mark.redis
def test_from_redis(folder: Path, own_redis: RedisServer) -> None:
    (line,) = (line for line in COMMANDS if REDIS in line)
    make_world(VERSION).publish(own_redis.url)
    assert "joined 1,000 rows" in run(folder, *line.replace(REDIS, own_redis.url).split())
