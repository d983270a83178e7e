"""The build of the package, with a compiler and without one."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from hatch_build import LIBRARY, CompilationError, Compiler, find_compiler
from tests.wheel.environments import Environment, run, unpack

LOAD = """
import ctypes, pathlib, gkc
library = ctypes.CDLL(str(pathlib.Path(gkc.__file__).with_name("librows.so")))
print(library.gkc_choose(1))
"""
BUILD = (sys.executable, "-m", "hatchling", "build", "-t", "wheel")
REQUIRED = "from hatchling.build import *; print(get_requires_for_build_wheel())"


def _members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


def _compiler_script(folder: Path, text: str) -> None:
    script = folder / "cc"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)


def test_a_source_distribution_has_the_source_and_no_library(sdist: Path) -> None:
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"gkc/rows.c", "hatch_build.py"} <= names
    assert f"gkc/{LIBRARY.name}" not in names


def test_a_wheel_has_the_library_and_is_of_one_platform(wheel: Path) -> None:
    assert f"gkc/{LIBRARY.name}" in _members(wheel)
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")


@pytest.mark.slow
def test_without_a_compiler_the_build_brings_its_own(sdist: Path, tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path / "nothing"), "CC": ""}
    pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps"]
    run([*pip, "-w", tmp_path / "wheels", unpack(sdist, tmp_path / "tree")], environment=nothing)
    (built,) = (tmp_path / "wheels").iterdir()
    environment = Environment.make(tmp_path / "environment")
    environment.install("--no-deps", built)
    assert int(environment.run("python", "-c", LOAD).stdout) == 0


def test_only_a_build_without_a_compiler_needs_one(tmp_path: Path) -> None:
    with_compiler = run([sys.executable, "-c", REQUIRED])
    assert "ziglang" not in with_compiler.stdout
    nothing = {"PATH": str(tmp_path), "CC": ""}
    assert "ziglang" in run([sys.executable, "-c", REQUIRED], environment=nothing).stdout


def test_a_compiler_too_old_for_halves_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _compiler_script(tmp_path, "echo \"error: unknown type name '_Float16'\" >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert find_compiler() is None


def test_cc_names_a_compiler_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "ccache 'my cc'")
    found = find_compiler()
    assert found is not None
    assert found.command == ("ccache", "my cc")


def test_a_compiler_that_is_not_there_is_told_of(sdist: Path, tmp_path: Path) -> None:
    tree = unpack(sdist, tmp_path / "tree")
    done = run([*BUILD, "-d", tmp_path], cwd=tree, environment={"CC": "/no/such/cc"}, status=1)
    assert "look at the variable CC" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_any_compiler_the_build_says_what_to_do(sdist: Path, tmp_path: Path) -> None:
    tree = unpack(sdist, tmp_path / "tree")
    hidden = tmp_path / "hidden" / "ziglang"  # this environment may have it
    hidden.mkdir(parents=True)
    nothing = {"CC": "", "PATH": str(tmp_path), "PYTHONPATH": str(hidden.parent)}
    done = run([*BUILD, "-d", tmp_path], cwd=tree, environment=nothing, status=1)
    assert "pip install ziglang" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refused_source_leaves_the_former_library(tmp_path: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C compiler: install gcc")
    source, library = tmp_path / "rows.c", tmp_path / "librows.so"
    library.write_bytes(b"former")
    source.write_text("int unused(void) { int never; return 1; }")
    with pytest.raises(CompilationError, match="never"):
        compiler.build(source, library)
    assert library.read_bytes() == b"former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["librows.so", "rows.c"]


def test_a_compiler_says_which_it_is(tmp_path: Path) -> None:
    _compiler_script(tmp_path, "echo cc of tests 1.0")
    compiler = Compiler("cc", (str(tmp_path / "cc"),), "any")
    assert compiler.describe() == "cc: cc of tests 1.0"
