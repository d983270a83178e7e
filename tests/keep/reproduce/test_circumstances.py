"""Where figures were computed."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import torch

from keep.model_card import ROOT, commit_of
from keep.reproduce.circumstances import changed_since, circumstances


def test_it_names_machine_date_commit_and_versions() -> None:
    found = circumstances()
    assert json.loads(json.dumps(found)) == found
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(found["date"]))
    assert re.fullmatch(r"[0-9a-f]{7,}(-dirty)?|unknown", str(found["commit"]))
    assert "cores" in str(found["machine"])
    versions = found["versions"]
    assert isinstance(versions, dict)
    assert versions["torch"] == torch.__version__
    assert set(versions) == {"python", "torch", "numpy", "pyarrow"}


@pytest.mark.skipif(commit_of(ROOT) is None, reason="not in a checkout")
def test_files_that_changed_since_a_commit_are_named() -> None:
    first = subprocess.run(
        ["git", "-C", str(ROOT), "rev-list", "--max-parents=0", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[0]
    changed = changed_since(first)
    assert changed is not None
    assert "keep/reproduce/circumstances.py" in changed
    assert all(file.startswith(("exporter/", "gkc/", "keep/")) for file in changed)
    assert changed_since("0" * 40) is None
