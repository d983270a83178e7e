"""docs/lock.md: its commands and its block of Python run as pasted, in this order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import BIN, Place, done, export, service
from tests.exporter.bundles import Recipe, build
from tests.gkc.offline.tables import draw, write

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lock.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
(PYTHON,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
URL = "http://127.0.0.1:8000"


def test_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place("file:./gkc-data", "default")
    export(build(tmp_path / "bundle", Recipe()).path, "20211220", place)
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        done(*command.split(), place=place)
    with service(place) as url:
        done("gkc", "check", "model.gkc-lock", "--url", url)
        code = PYTHON.replace(URL, url) + "print(k.rows.shape)"
        environment = {"PYTHONPATH": str(ROOT), "PATH": str(BIN)}
        asked = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (asked.returncode, asked.stdout[:3]) == (0, "(3,"), asked.stderr
    write(draw(5), tmp_path / "days")
    done("gkc", "join", "--version", "20211220", "days", "joined-days", place=place)
    (sentence,) = re.findall(r"^`(gkc lock --joined [^`]+)`", PAGE, re.MULTILINE)
    done(*sentence.replace("model.", "joined.").split())
    done("gkc", "check", "joined.gkc-lock", "--exact", place=place)
