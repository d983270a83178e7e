from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gkc.store.durable import (
    TEMPORARY,
    is_at,
    lock_file,
    make_directory,
    open_regular,
    replace_file,
    sync_directory,
)


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


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
def test_what_is_no_file_is_refused_by_its_name(
    tmp_path: Path, make: Callable[[Path], None], flags: int
) -> None:
    make(tmp_path / "record.json")
    with pytest.raises(OSError, match=r"is not a regular file: .*record\.json"):
        open_regular(tmp_path / "record.json", flags)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_nothing_waits_for_a_pipe_in_the_way(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "record.json"
    make(path.with_name(path.name + TEMPORARY))
    with pytest.raises(OSError, match="tmp"):
        replace_file(path, b"new")
    make(tmp_path / "lock")
    with pytest.raises(OSError, match="lock"):
        lock_file(tmp_path / "lock")


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


def test_a_lock_is_had_by_one_and_returns_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = lock_file(path)
    assert first is not None
    assert is_at(first, path)
    assert lock_file(path) is None
    os.close(first)
    second = lock_file(path)
    assert second is not None
    os.close(second)


def test_whoever_waits_for_a_lock_pauses_until_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held, pauses = lock_file(path), []
    assert held is not None

    def pause() -> None:
        pauses.append(1)
        if len(pauses) == 3:
            os.close(held)

    fd = lock_file(path, pause)
    assert fd is not None
    assert len(pauses) == 3
    with pytest.raises(TimeoutError):
        lock_file(path, _give_up)
    os.close(fd)


def _give_up() -> None:
    raise TimeoutError


def test_a_file_removed_between_opening_and_locking_is_locked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "lock", fcntl.flock

    def lock_too_late(fd: int, operation: int) -> None:
        monkeypatch.undo()
        path.unlink()  # as its former holder does when it ends
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    fd = lock_file(path)
    assert fd is not None
    assert is_at(fd, path)
    path.unlink()
    assert not is_at(fd, path)
    os.close(fd)
