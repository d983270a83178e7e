"""Empty environments that packages are installed into, and source trees that are built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a test; nobody activates it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        """Make an empty one; pip itself stays outside."""
        venv.create(folder, symlinks=True)
        return cls(folder)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def borrow(self, *packages: Path) -> None:
        """Let it have packages of another environment, as if they were installed here."""
        (site,) = (self.folder / "lib").glob("python*/site-packages")
        for package in packages:
            (site / package.name).symlink_to(package)

    def install(self, *what: object) -> None:
        """Install with the pip of the tests."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "-qq"]
        run([*pip, "--no-compile", *what])

    def run(
        self, command: str, *arguments: object, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run one of its commands."""
        return run([self.folder / "bin" / command, *arguments], status=status, cwd=self.folder)


def run(
    command: Sequence[object],
    *,
    status: int = 0,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a process that must end with this exit status."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"{command} exited {done.returncode}: {done.stderr}"
    return done


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a source distribution and return its tree."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    return tree


def write_pins(path: Path) -> Path:
    """Write the versions of the lock file without hashes: they bind what is installed, no more."""
    locked = (ROOT / "requirements" / "dev.txt").read_text()
    pins = re.findall(r"^([\w.-]+==[^\\\n]+)", locked, flags=re.MULTILINE)
    path.write_text("\n".join(pins))
    return path
