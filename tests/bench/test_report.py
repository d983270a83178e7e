"""A figure says where it comes from."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from bench import report
from bench.report import PACKAGES, circumstances, print_circumstances, spread


def test_the_command_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bench/x.py", "--rounds", "3"])
    assert circumstances("bench.x")["command"] == "python -m bench.x --rounds 3"
    monkeypatch.setattr("sys.argv", ["/somewhere/bench/x.py"])
    assert circumstances("bench.x")["command"] == "python -m bench.x"


def test_versions_are_of_what_is_installed_and_of_what_matters_besides() -> None:
    told = circumstances("bench.x", "uvloop")["versions"]
    assert told.startswith(f"CPython {platform.python_version()}")
    packages = told.split(", ")[1:]
    assert packages == [f"{name} {version(name)}" for name in (*PACKAGES, "uvloop")]


def test_a_slow_interpreter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, told in (("--enable-optimizations", False), ("--with-lto", True), (None, True)):
        monkeypatch.setattr("sysconfig.get_config_var", lambda _, found=options: found)
        assert ("without --enable-optimizations" in circumstances("bench.x")["versions"]) is told


def test_a_copy_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "__file__", str(tmp_path / "bench" / "report.py"))
    assert circumstances("bench.x")["date"].endswith(", commit unknown")


def test_circumstances_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_circumstances("bench.x")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(circumstances("bench.x"))


def test_a_spread_is_the_median_and_the_range() -> None:
    assert spread([3.0, 1.0, 2000.0]) == "3.00 (1.00 to 2,000.00)"
    assert spread([1.0, 2.0], digits=1) == "1.5 (1.0 to 2.0)"


def test_only_changed_code_makes_a_commit_dirty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    for name in ("bench", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("before")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    monkeypatch.setattr(report, "__file__", str(tmp_path / "bench" / "report.py"))
    for name, dirty in (("docs", False), ("bench", True)):
        (tmp_path / name / "file").write_text("after")
        assert circumstances("bench.x")["date"].endswith("-dirty") is dirty
