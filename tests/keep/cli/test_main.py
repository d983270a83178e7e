from __future__ import annotations

from pathlib import Path

import pytest

from tests.in_process import command, done

pytestmark = pytest.mark.slow


def test_help_lists_every_command() -> None:
    printed = done("keep", "--help")
    for name in ("fetch", "import", "simulate", "pretrain", "distil", "bundle"):
        assert name in printed


@pytest.mark.parametrize("name", ["fetch", "import", "simulate", "pretrain", "distil", "bundle"])
def test_every_command_has_help_with_an_example(name: str) -> None:
    assert f"Example: keep {name}" in done("keep", name, "--help")


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = command("keep", "simulate", "--out", tmp_path / "file" / "log")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("keep: ")
    assert "Traceback" not in result.stderr
