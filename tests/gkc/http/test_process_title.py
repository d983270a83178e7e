"""A process is shown by its title, as far as that fits over its arguments."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gkc.http.process_title import WORKER

_SHOWN = """
import sys
from pathlib import Path
from gkc.http.process_title import set_title
set_title(sys.argv[1] * int(sys.argv[2]))
sys.stdout.write(Path("/proc/self/cmdline").read_text())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process so")
@pytest.mark.parametrize("times", [1, 10_000])
def test_a_title_takes_the_place_of_the_arguments(times: int) -> None:
    command = [sys.executable, "-c", _SHOWN, WORKER, str(times)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    size = sum(len(word) + 1 for word in command)
    assert shown == (WORKER * times)[: size - 1].ljust(size, "\0")
