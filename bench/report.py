"""What every measurement says beside its figures: machine, versions, date, commit and command."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numpy", "orjson", "fastapi", "uvicorn", "redis", "pyarrow", "onnxruntime")


def circumstances(module: str, *more: str) -> dict[str, str]:
    """Say where and with what the figures of this process are measured.

    Parameters
    ----------
    module : str
        The measurement, as it is run.
    *more : str
        Packages to name beside those that are always named.

    Returns
    -------
    dict of str to str
        ``command``, ``date``, ``machine`` and ``versions``.
    """
    packages = ", ".join(f"{name} {version(name)}" for name in (*PACKAGES, *more))
    return {
        "command": f"python -m {module} {' '.join(sys.argv[1:])}".rstrip(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}",
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()}",
        "versions": f"CPython {platform.python_version()}{_build()}, {packages}",
    }


def print_circumstances(module: str, *more: str) -> None:
    """Print the circumstances of the figures that follow, a line each."""
    for name, told in circumstances(module, *more).items():
        print(f"{name:8} {told}")


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median of some values, and their range, for people."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _build() -> str:
    """Say so where the interpreter itself is slow: comparisons between machines need it."""
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return "" if optimized else " built without --enable-optimizations"


def _commit() -> str:
    """Name the commit; ``-dirty`` if code differs from it. What was measured just now may."""
    commit = _git("describe", "--always")
    differs = commit and _git("status", "--porcelain", "--untracked-files=no", "--", ":!docs")
    return (commit or "unknown") + ("-dirty" if differs else "")


def _git(*arguments: str) -> str:
    root = Path(__file__).parent.parent
    command = ["git", *arguments]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
