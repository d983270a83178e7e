"""Where figures were computed."""

from __future__ import annotations

import json
import re

import torch

from keep.reproduce.circumstances import circumstances


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
