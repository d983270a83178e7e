"""Checkouts run their own code, and one is made of a commit where none is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.checkouts import HERE, Checkout, other_checkout, unpack


def test_a_folder_without_our_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is no checkout of gkc"):
        other_checkout(tmp_path)
    HERE.check()


def test_a_command_that_fails_ends_it_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="out of luck"):
        HERE.run(HERE.python("-c", "raise SystemExit('out of luck')"))


def test_a_checkout_runs_on_its_own_packages_if_it_has_any(tmp_path: Path) -> None:
    assert Checkout(tmp_path).python("x.py") == [sys.executable, "-P", "x.py"]
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert Checkout(tmp_path).python("x.py") == [str(own), "-P", "x.py"]


def test_a_commit_is_unpacked_without_what_is_not_committed(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@x"]
    (repository / "kept.txt").write_text("kept")
    for command in (["init", "-q"], ["add", "kept.txt"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    (repository / "left.txt").write_text("left")
    unpack("HEAD", tmp_path / "unpacked", repository)
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["kept.txt"]


def test_a_commit_that_is_unknown_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        unpack("0" * 40, tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()
