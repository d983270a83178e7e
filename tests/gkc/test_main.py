from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = "import sys; sys.modules[sys.argv.pop(1)] = None; from gkc.__main__ import main; main()"


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("typer", ["--help"], "store"),
        ("redis", ["versions"], "store"),
        ("uvicorn", ["serve"], "service"),
    ],
)
def test_a_missing_extra_is_one_line(
    missing: str, command: list[str], extra: str, tmp_path: Path
) -> None:
    store = [] if "--help" in command else ["--store", "redis://127.0.0.1:1"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, missing, *command, *store],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{missing} is not installed" in done.stderr
    assert f"gkc[{extra}]" in done.stderr
