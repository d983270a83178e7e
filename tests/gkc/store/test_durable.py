from __future__ import annotations

from pathlib import Path

import pytest

from gkc.store.durable import TEMPORARY, make_directory, replace_file, sync_directory


def test_a_replaced_file_has_the_new_bytes_and_no_temporary_stays(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    replace_file(path, b"old and longer")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    replace_file(path, b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new")
        assert reader.read() == b"old"


def test_a_leftover_temporary_of_a_dead_writer_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.with_name(path.name + TEMPORARY).write_bytes(b"half")
    replace_file(path, b"whole")
    assert path.read_bytes() == b"whole"


def test_directories_are_made_with_their_parents_and_may_be_there(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    sync_directory(tmp_path / "a")


def test_a_file_where_a_directory_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"/a'"):
        make_directory(tmp_path / "a" / "b")
