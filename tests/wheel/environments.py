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
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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

    @property
    def site(self) -> Path:
        """The folder of its packages."""
        (folder,) = (self.folder / "lib").glob("python*/site-packages")
        return folder

    def borrow(self, *packages: Path) -> None:
        """Let it have packages of another environment, as if they were installed here."""
        for package in packages:
            (self.site / package.name).symlink_to(package)

    def install_wheel(self, wheel: Path, extras: set[str]) -> None:
        """Install our wheel, and borrow from the tests' environment what it then asks for."""
        self.install("--no-deps", wheel)
        (ours,) = metadata.distributions(path=[str(self.site)])
        self.borrow(*_packages(_required(ours, extras)))

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


def _required(ours: metadata.Distribution, extras: set[str]) -> list[metadata.Distribution]:
    """Return what a distribution needs with these extras, with all that those need in turn."""
    required: dict[str, metadata.Distribution] = {}
    visited: set[tuple[str, frozenset[str]]] = set()

    def visit(needing: metadata.Distribution, extras: set[str]) -> None:
        for requirement in map(Requirement, needing.requires or []):
            environments = [{"extra": extra} for extra in extras or {""}]
            if requirement.marker and not any(map(requirement.marker.evaluate, environments)):
                continue
            name = canonicalize_name(requirement.name)
            found = ours if name == ours.name else metadata.distribution(name)
            assert requirement.specifier.contains(found.version), requirement
            if found is not ours:
                required[name] = found
            if (name, frozenset(requirement.extras)) not in visited:
                visited.add((name, frozenset(requirement.extras)))
                visit(found, requirement.extras)

    visit(ours, extras)
    return list(required.values())


def _packages(distributions: list[metadata.Distribution]) -> set[Path]:
    """Return the files and folders of distributions that lie side by side among the packages."""
    return {
        Path(str(distribution.locate_file(file.parts[0])))
        for distribution in distributions
        for file in distribution.files or []
        if file.parts[0] not in {"..", "__pycache__"}
    }


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
