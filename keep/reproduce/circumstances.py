"""Where and with what figures were computed: they stand beside every result."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keep.model_card import ROOT, commit_of

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


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
