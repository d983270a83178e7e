"""A command in a process of its own, and what it cost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a command printed and took."""

    stdout: str
    peak_mib: float
    """Largest resident set, MiB."""
    seconds: float
    cpu_seconds: float


def run_child(command: Sequence[str]) -> Cost:
    """Run a command to its end.

    The peak counts from the memory of the process that starts it: keep that small.

    Parameters
    ----------
    command : sequence of str
        The command and its arguments.

    Returns
    -------
    Cost
        Its output and what it took.

    Raises
    ------
    SystemExit
        If it failed.
    """
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"failed with status {child.returncode}: {' '.join(command)}")
    return Cost(
        stdout=out,
        peak_mib=usage.ru_maxrss / 1024,
        seconds=time.perf_counter() - began,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
    )
