"""A compiled library that is missing, foreign or wrong ends every command that needs it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gkc
from gkc.rows_library import LIBRARY
from hatch_build import find_compiler
from tests.commands import Place
from tests.gkc.test_rows_trial import build_doctored
from tests.gkc.world import make_world

GET = ("get", "--user", "7", "--item", "11", "--version", "v1")
ELF_MACHINE = 18
S390 = (22).to_bytes(2, "little")


def missing(library: Path) -> None:
    library.unlink()


def no_library(library: Path) -> None:
    library.write_text("a text\n")


def of_another_processor(library: Path) -> None:
    raw = bytearray(library.read_bytes())
    raw[ELF_MACHINE : ELF_MACHINE + 2] = S390
    library.write_bytes(raw)


def another_library(library: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C compiler: install gcc")
    source = library.with_suffix(".c")
    source.write_text("int gkc_choose(int plain);\nint gkc_choose(int plain) { return plain; }\n")
    compiler.build(source, library)


def answering_other_bits(library: Path) -> None:
    doctored = build_doctored(library.parent, "? DEFAULT", "? FOUND")
    assert doctored == library


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """Return a folder with a copy of the package, which Python run there takes for the package."""
    source = Path(gkc.__file__).parent
    shutil.copytree(source, tmp_path / "gkc", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    "damage", [missing, no_library, of_another_processor, another_library, answering_other_bits]
)
@pytest.mark.parametrize(
    "command",
    [GET, ("serve", "--port", "0"), ("serve", "--port", "0", "--workers", "2")],
    ids=["get", "serve", "serve with workers"],
)
def test_it_is_one_line_that_names_the_processor_and_what_to_do(
    installation: Path, damage: Callable[[Path], None], command: tuple[str, ...]
) -> None:
    place = Place(f"file:{installation / 'store'}", "default")
    make_world().publish(place.url)
    library = installation / "gkc" / LIBRARY.name
    damage(library)
    done = subprocess.run(
        [sys.executable, "-m", "gkc", *command],
        cwd=installation,
        env={**os.environ, **place.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("gkc: the compiled rule of rows ")
    assert f"it is {library} on {platform.machine()}, " in line
    assert line.endswith("install gkc anew for this machine (in a checkout: make install)")
    expected = "gives other bits" if damage is answering_other_bits else "cannot be loaded"
    assert expected in line
