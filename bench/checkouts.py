"""Checkouts of this repository beside each other: each runs its own code on its own packages.

What a change did is told by the commit before it, measured in the same run. Each exports with its
own exporter, because a commit may change how knowledge is stored. Make the one that is measured
beside this one in advance, outside of anything timed:

    python -m bench.checkouts
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

ROOT: Final = Path(__file__).resolve().parents[1]
BEFORE: Final = "8b4fcbb"
"""The commit that improvements are measured against: format 1, numba and numpy."""
MADE: Final = ROOT / ".work" / f"before-{BEFORE}"


@dataclass(frozen=True)
class Checkout:
    """A checkout; without a ``.venv`` of its own it shares this one's packages."""

    root: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables under which Python imports this checkout's code."""
        return {"PYTHONPATH": str(self.root)}

    def python(self, *arguments: str) -> list[str]:
        """Return the command that runs Python on this checkout, under its environment."""
        own = self.root / ".venv" / "bin" / "python"
        # Without -P the current folder's code would come before that of PYTHONPATH.
        return [str(own) if own.exists() else sys.executable, "-P", *arguments]

    def module(self, name: str, *arguments: str) -> list[str]:
        """Return the command that runs a module of this checkout."""
        return self.python("-m", name, *arguments)

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command under this checkout's environment; return what it printed.

        Raises
        ------
        SystemExit
            If it failed.
        """
        environment = os.environ | self.environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"failed: {' '.join(command)}\n{done.stdout}{done.stderr}".strip())
        return done

    def check(self) -> Checkout:
        """Check that Python runs this checkout's code, not some other; return it.

        Raises
        ------
        SystemExit
            If it does not.
        """
        imported = self.run(self.python("-c", "import gkc; print(gkc.__file__)")).stdout.strip()
        if imported != str(self.root / "gkc" / "__init__.py"):
            raise SystemExit(f"{self.root} is no checkout of gkc: Python finds {imported}")
        return self


HERE: Final = Checkout(ROOT)
GivenCheckout = Annotated[
    Path | None,
    typer.Argument(
        help=f"Root of the other checkout; default: commit {BEFORE}, installed in {MADE.name}.",
        exists=True,
    ),
]


def other_checkout(given: Path | None) -> Checkout:
    """Return the checkout of this root, checked, that this one is set against.

    Without a root, `BEFORE` is unpacked and installed (once, about a minute).
    """
    if given is not None:
        return Checkout(given.resolve()).check()
    if not MADE.exists():
        unpack(BEFORE, MADE)
    install = ["make", "--directory", str(MADE), "install", "TORCH=none"]
    subprocess.run(install, check=True, stdout=sys.stderr)
    return Checkout(MADE).check()


def unpack(commit: str, folder: Path, repository: Path = ROOT) -> None:
    """Unpack a commit's files into a new folder, which is not there if this fails."""
    command = ["git", "-C", str(repository), "archive", commit]
    archive = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    folder.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive, check=True)


if __name__ == "__main__":
    print(other_checkout(None).root)
