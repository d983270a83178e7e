"""Compile ``gkc/rows.c`` into the package: hatchling's build hook, and who else needs a compiler.

Until hatchling asks for the hook, this needs nothing but the standard library: ``make install``
and the tests find their compiler here too.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "gkc" / "rows.c"
LIBRARY = SOURCE.with_name("librows.dylib" if sys.platform == "darwin" else "librows.so")
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
"""Of every build. Products and sums stay apart, and no processor is assumed: wheels travel."""

ZIG_REQUIREMENT = "ziglang>=0.17"
_ZIG_TARGETS = {"x86_64", "aarch64"}
"""Where glibc 2.17 is the oldest that a library built by Zig runs on; others get the host's own."""
_PROBE = """\
#include <stdint.h>
#include <string.h>
_Float16 half(float single);
_Float16 half(float single) { return (_Float16)single; }
"""


class CompilationError(Exception):
    """The library was not built; the message has the compiler's own words and what to do."""


class Compiler(NamedTuple):
    """A C compiler and what it builds for.

    Attributes
    ----------
    name : str
        For people.
    command : tuple of str
        How it is called.
    platform_tag : str
        Platform of a wheel that carries what it built.
    """

    name: str
    command: tuple[str, ...]
    platform_tag: str

    def describe(self) -> str:
        """Say in one line which compiler it is."""
        with tempfile.TemporaryDirectory() as folder:
            said = _run([*self.command, "--version"], caches=folder).stdout
        return ": ".join([self.name, *said.splitlines()[:1]])

    def build(self, source: Path, library: Path, *flags: str) -> None:
        """Compile a shared library, which appears whole or not at all.

        Processes that have the former one mapped go on with it.

        Raises
        ------
        CompilationError
            If the compiler cannot be run, or refuses the source.
        """
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=".building-") as folder:
            built = Path(folder) / library.name
            command = [*self.command, *FLAGS, "-fPIC", "-shared", *flags]
            command += [str(source), "-o", str(built)]
            try:
                done = _run(command, caches=folder)
            except OSError as error:
                raise CompilationError(f"{error}; look at the variable CC") from error
            if done.returncode:
                raise CompilationError(
                    f"{shlex.join(command)} failed:\n{done.stderr.strip()}\nA C compiler that "
                    "knows _Float16 is needed (gcc 12, clang 15 or newer, named by the variable "
                    "CC), or `pip install ziglang`, which is one"
                )
            built.replace(library)


def find_compiler() -> Compiler | None:
    """Return the compiler that ``CC`` names, else ``cc``; None if there is none that will do."""
    named = os.environ.get("CC", "")
    if named:
        return Compiler(named, tuple(shlex.split(named)), _platform_tag())
    compiler = Compiler("cc", ("cc",), _platform_tag())
    return compiler if shutil.which("cc") and _knows_halves(compiler) else None


def zig(python: str = sys.executable) -> Compiler:
    """Return the compiler within the package ``ziglang`` of a Python.

    On Linux its library runs on any distribution since glibc 2.17, and the wheel says so.
    """
    command = (python, "-m", "ziglang", "cc", "-mcpu=baseline", "-s")
    machine = platform.machine()
    if platform.libc_ver()[0] == "glibc" and machine in _ZIG_TARGETS:
        target = ("-target", f"{machine}-linux-gnu.2.17")
        return Compiler("ziglang", (*command, *target), f"manylinux_2_17_{machine}")
    return Compiler("ziglang", command, _platform_tag())


def get_build_hook() -> type[BuildHookInterface[Any]]:
    """Return the hook; hatchling calls this."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class CompiledRows(BuildHookInterface[Any]):
        """Puts the compiled library into a wheel, editable ones too."""

        def dependencies(self) -> list[str]:
            """Ask for a compiler where there is none."""
            return [] if find_compiler() else [ZIG_REQUIREMENT]

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile, and tag the wheel for this platform and any Python 3."""
            compiler = find_compiler() or zig()
            try:
                compiler.build(SOURCE, LIBRARY, "-O3")
            except CompilationError as error:
                self.app.abort(str(error))
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{compiler.platform_tag}"
            build_data["artifacts"].append(f"/gkc/{LIBRARY.name}")

    return CompiledRows


def _run(command: list[str], caches: str) -> subprocess.CompletedProcess[str]:
    """Run a compiler; what Zig caches goes into a folder that is soon gone, not into the home.

    Without a home that can be written Zig does not work, or not end.
    """
    zig_caches = {"ZIG_GLOBAL_CACHE_DIR": caches, "ZIG_LOCAL_CACHE_DIR": caches}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **zig_caches}
    )


def _knows_halves(compiler: Compiler) -> bool:
    """Tell whether it builds a library with C's headers and ``_Float16``, as old ones do not."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text(_PROBE)
        try:
            compiler.build(source, source.with_suffix(".so"))
        except CompilationError:
            return False
    return True


def _platform_tag() -> str:
    """Return this machine's platform as wheels name it; one architecture, whatever Python's are."""
    name = sysconfig.get_platform().replace("universal2", platform.machine())
    return name.replace("-", "_").replace(".", "_")
