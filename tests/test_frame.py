"""What holds for the repository as a whole: packages, commands, pinned requirements, targets."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gkc

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

LOADED_MODULES = (
    "import json, sys; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
)

# Imports every module of a package, with some other packages made impossible to import;
# of gkc without gkc.offline, which has an extra of its own and knows torch.
IMPORT_ALL = """
import importlib, pkgutil, sys
package, *forbidden = sys.argv[1:]
for name in forbidden:
    sys.modules[name] = None
module = importlib.import_module(package)
names = [info.name for info in pkgutil.walk_packages(module.__path__, package + ".")]
for name in names:
    is_apart = package == "gkc" and name.startswith("gkc.offline")
    if not is_apart and not name.endswith((".__main__", ".librows")):
        importlib.import_module(name)
print(len(names))
"""


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _locked(name: str) -> dict[str, list[str]]:
    """Versions that a lock file pins, by canonical name (several where markers differ)."""
    pinned: dict[str, list[str]] = {}
    for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line):
            pinned.setdefault(canonicalize_name(match[1]), []).append(match[2])
    return pinned


def test_the_version_is_stated_once_in_effect() -> None:
    assert gkc.__version__ == PROJECT["version"]


def test_importing_the_row_layout_stays_cheap() -> None:
    loaded = set(json.loads(_python(f"import gkc.knowledge\n{LOADED_MODULES}")))
    heavy = {"torch", "onnx", "pyarrow", "onnxruntime", "fastapi", "redis", "uvicorn", "structlog"}
    assert "numpy" in loaded
    assert not loaded & heavy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("gkc", ["torch", "onnx", "onnxruntime", "pyarrow", "exporter", "keep"]),
        ("exporter", ["torch", "onnx", "keep", "fastapi"]),
    ],
)
def test_a_package_needs_nothing_beyond_its_extra(package: str, forbidden: list[str]) -> None:
    assert int(_python(IMPORT_ALL, package, *forbidden)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(PROJECT["scripts"]))
def test_every_command_explains_itself(script: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / script), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["service", "exporter", "keep", "build", "zig", "dev"])
def test_a_lock_file_pins_by_hash_and_names_no_host(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    assert "://" not in text
    entries = text.replace("\\\n", " ").splitlines()
    packages = [entry for entry in entries if entry and not entry.lstrip().startswith("#")]
    assert packages
    assert [entry for entry in packages if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("service", {"torch", "onnx", "onnxruntime", "pyarrow"}),
        ("exporter", {"torch", "onnx"}),
        ("keep", {"torch"}),
        ("dev", {"torch"}),
    ],
)
def test_a_lock_file_leaves_out_what_its_extra_does_not_need(name: str, absent: set[str]) -> None:
    assert not absent & _locked(name).keys()


@pytest.mark.parametrize("name", ["service", "exporter", "keep", "build"])
def test_all_lock_files_agree(name: str) -> None:
    everything = _locked("dev")
    assert {package: everything.get(package) for package in _locked(name)} == _locked(name)


@pytest.mark.parametrize(
    ("lock", "stated"),
    [
        ("service", PROJECT["dependencies"]),
        *(
            (lock, PROJECT["optional-dependencies"][extra])
            for lock, extra in (
                ("service", "store"),
                ("service", "service"),
                ("exporter", "exporter"),
                ("exporter", "offline"),
                ("keep", "keep"),
                ("dev", "dev"),
            )
        ),
    ],
)
def test_what_is_pinned_is_what_the_package_asks_for(lock: str, stated: list[str]) -> None:
    pinned = _locked(lock)
    for requirement in map(Requirement, stated):
        if requirement.name in ("gkc", "torch"):
            continue  # itself; and what is outside the hashed files: requirements/install.py
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert versions, requirement.name
        assert all(version in requirement.specifier for version in versions), requirement.name


def test_torch_can_be_installed_without_its_dependencies() -> None:
    pytest.importorskip("torch", reason="installed with TORCH=none")
    needed = map(Requirement, importlib.metadata.requires("torch") or [])
    plain = {canonicalize_name(needs.name) for needs in needed if needs.marker is None}
    assert "sympy" in plain
    assert plain <= _locked("keep").keys()


def test_make_knows_every_target_of_the_contract() -> None:
    help_text = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    listed = {line.split()[0] for line in help_text.splitlines()}
    contract = {"install", "demo", "test", "check", "bench", "up", "loadtest", "clean"}
    assert contract <= listed


def test_every_path_that_the_pages_for_developers_name_exists() -> None:
    text = "".join((ROOT / name).read_text() for name in ("CONTRIBUTING.md", "docs/structure.md"))
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text))
    assert "gkc/store/protocol.py" in named
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
