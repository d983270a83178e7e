"""Which file becomes which, and what is in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gkc.errors import TableFileError
from gkc.offline.folders import FilePair, leftovers, pair_files


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_file_becomes_a_file(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    touch(source)
    assert pair_files(source, target) == [FilePair(source, target)]


def test_a_folder_keeps_its_files(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    kept = ["a=1/part-0.parquet", "a=2/part-0", "part.parquet"]
    hidden = ["_SUCCESS", ".part.crc", "_temporary/part-1", ".x/y/part", "a=1/_metadata"]
    touch(*(source / name for name in kept + hidden))
    assert pair_files(source, target) == [FilePair(source / n, target / n) for n in kept]


def test_folders_named_like_columns_are_seen(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "_day=1" / "part")
    assert len(pair_files(tmp_path / "in", tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("nothing", "out", "nothing: there is no such file"),
        ("file", "file", "is what is read"),
        ("folder", "folder", "is what is read"),
        ("folder", "folder/out", "lies in"),
        ("folder/deep", "folder", "or holds it"),
        ("file", "folder", "is a folder, and"),
        ("folder", "file", "is a file, and"),
        ("empty", "out", "holds no file"),
        ("delta", "out", "is a Delta table"),
        ("folder/../file", "./file", "is what is read"),
        ("links", "out", "links/a: is a link to a folder"),
        ("pipes", "out", "pipes/a: is no regular file"),
    ],
)
def test_places_that_do_not_fit(source: str, target: str, said: str, tmp_path: Path) -> None:
    touch(tmp_path / "file", tmp_path / "folder" / "deep" / "a", tmp_path / "empty" / "_SUCCESS")
    touch(tmp_path / "delta" / "_delta_log" / "0.json", tmp_path / "delta" / "part.parquet")
    for name in ("links", "pipes"):
        (tmp_path / name).mkdir()
    (tmp_path / "links" / "a").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipes" / "a")
    with pytest.raises(TableFileError, match=said):
        pair_files(tmp_path / source, tmp_path / target)


def test_a_link_to_what_is_read(tmp_path: Path) -> None:
    touch(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(TableFileError, match="is what is read"):
        pair_files(tmp_path / "file", tmp_path / "link")


def test_what_a_killed_join_left(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    of_folder = FilePair(tmp_path / "in" / "a" / "b", tmp_path / "out" / "a" / "b").temporary
    of_file = FilePair(tmp_path / "file", tmp_path / "out" / "b").temporary
    touch(of_folder, of_file, tmp_path / "out" / ".other", tmp_path / "file")
    assert leftovers(tmp_path / "in", tmp_path / "out") == sorted([of_folder, of_file])
    assert leftovers(tmp_path / "file", tmp_path / "out" / "b") == [of_file]
    assert leftovers(tmp_path / "file", tmp_path / "out" / "c") == []
