"""docs/bundle.md: its script, as pasted, makes a bundle that its commands export and ask."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.in_process import done

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()
(PROGRAM,) = re.findall(r"^```python make_bundle.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    (gkc.*)$", PAGE, re.MULTILINE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_bundle_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(PROGRAM, {})
    export, get = COMMANDS
    assert "users                          2" in done(*export.split())
    assert done(*get.split()).count("found") == 3
