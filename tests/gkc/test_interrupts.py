"""Commands that are interrupted while they import what they need."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from gkc.interrupts import terminated_as_interrupted

INTERRUPTED = """
import signal, sys
package, number, *sys.argv[1:] = sys.argv[1:]
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == package + ".cli":
            signal.raise_signal(int(number))
sys.meta_path.insert(0, Interrupting())
if {is_ignored}:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
from importlib import import_module
import_module(package + ".__main__").main()
"""


def interrupted(
    package: str, number: int, *args: str, is_ignored: bool = False
) -> subprocess.CompletedProcess[str]:
    code = INTERRUPTED.format(is_ignored=is_ignored)
    return subprocess.run(
        [sys.executable, "-c", code, package, str(number), *args],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("package", ["gkc", "exporter", "keep"])
def test_ctrl_c_ends_a_command_that_imports_without_a_word(package: str) -> None:
    ended = interrupted(package, signal.SIGINT, "--help")
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr == ""


def test_where_it_is_ignored_it_stays_so() -> None:
    assert interrupted("gkc", signal.SIGINT, "--help", is_ignored=True).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_service_that_imports_is_stopped_with_status_0(number: signal.Signals) -> None:
    ended = interrupted("gkc", number, "serve")
    assert ended.returncode == 0
    assert ended.stderr == ""


TERMINATED = """
import signal
from gkc.interrupts import terminated_as_interrupted
with terminated_as_interrupted():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)  # a second one
        print("cleaned up")
"""


def test_sigterm_ends_a_block_that_cleans_up() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TERMINATED], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "cleaned up\n", "")


def test_ctrl_c_and_handlers_stay_what_they_are() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminated_as_interrupted():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
