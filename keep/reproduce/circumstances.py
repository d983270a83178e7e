"""Where and with what figures were computed: they stand beside every result."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keep.model_card import ROOT, commit_of

CODE = ("exporter", "gkc", "keep")
"""Folders of the code that figures depend on."""
PACKAGES = ("torch", "numpy", "pyarrow")


def circumstances() -> dict[str, Any]:
    """Describe this machine and this moment in JSON values.

    The commit is that of the checkout that the code runs from, with ``-dirty`` where files were
    changed, ``unknown`` outside one; the date is of UTC.
    """
    return {
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit_of(ROOT) or "unknown",
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def changed_since(commit: str) -> list[str] | None:
    """List the files of code in this checkout that are not as at a commit.

    None where that cannot be told: outside a checkout, or if it has no such commit.
    """
    if commit_of(ROOT) is None:
        return None
    words = ["git", "-C", str(ROOT), "diff", "--name-only", commit, "--", *CODE]
    try:
        named = subprocess.run(words, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError:
        return None
    return named.stdout.splitlines()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
