"""Files that change under a running service: the whole ones count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog

from gkc.errors import CommandError
from gkc.http.followed_files import FollowedFiles


def numbers(path: Path) -> FollowedFiles[int]:
    def read() -> int:
        try:
            return int(path.read_text())
        except ValueError as exc:
            raise CommandError(f"{path} is no number") from exc

    return FollowedFiles([path], read)


def test_what_is_broken_is_logged_once_and_what_was_read_last_stays(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    followed = numbers(path)
    with structlog.testing.capture_logs() as logged:
        followed.reread()
        for content in ("x", "x", "2"):
            path.write_text(content)
            followed.reread()
            assert followed.value == (2 if content == "2" else 1)
        path.unlink()
        followed.reread()
        followed.reread()
        assert followed.value == 2
        path.write_text("2")
        followed.reread()
    events = [each["event"] for each in logged]
    assert events == ["files_refused", "files_read", "files_refused", "files_read"]
    assert "cannot be read: No such file or directory" in logged[2]["cause"]


def test_what_is_large_is_refused_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    followed = numbers(path)
    os.truncate(path, 1 << 40)
    with structlog.testing.capture_logs() as logged:
        followed.reread()
    assert followed.value == 1
    assert "is larger than 4194304 bytes, the most that is read" in logged[0]["cause"]


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(CommandError, match="pipe is no file"):
        numbers(pipe)
