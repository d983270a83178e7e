"""``rows.c`` built otherwise than it is shipped: with sanitizers, and for another processor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hatch_build import FLAGS, SOURCE, find_compiler

_SANITIZERS = (
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
_CROSS_COMPILER = "aarch64-linux-gnu-gcc"
_EMULATOR = "qemu-aarch64"


def build_sanitized(folder: Path, source: Path = SOURCE) -> Path:
    """Compile a library that ends its process with a report at the first invalid access.

    It is loaded by `run_sanitized`: a process without the sanitizer's own library refuses it.
    """
    compiler = find_compiler()
    if compiler is None or _sanitizer_library() is None:
        pytest.skip("no compiler with the address sanitizer: install gcc")
    library = folder / f"lib{source.stem}-sanitized.so"
    compiler.build(source, library, *_SANITIZERS)
    return library


def run_sanitized(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that can load what `build_sanitized` built."""
    sanitizer = _sanitizer_library()
    assert sanitizer is not None, "build_sanitized skips without it"
    environment = {
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves objects to its end
        "PYTHONMALLOC": "malloc",  # else small objects share blocks, whose edges nobody sees
    }
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_here(program: Path, folder: Path, *arguments: object) -> str:
    """Compile a C program together with ``rows.c``, run it, and return what it printed."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C compiler: install gcc")
    return _run_program(list(compiler.command), [], program, folder / "here", arguments)


def run_on_aarch64(program: Path, folder: Path, *arguments: object) -> str:
    """As `run_here`, on an emulated processor of another kind."""
    for needed in (_CROSS_COMPILER, _EMULATOR):
        if shutil.which(needed) is None:
            pytest.skip(
                f"no {needed}: install gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user"
            )
    compiler, built = [_CROSS_COMPILER, "-static"], folder / "aarch64"
    return _run_program(compiler, [_EMULATOR], program, built, arguments)


def _run_program(
    compiler: list[str],
    runner: list[str],
    program: Path,
    built: Path,
    arguments: Sequence[object],
) -> str:
    _run([*compiler, *FLAGS, "-O3", str(SOURCE), str(program), "-o", str(built)])
    return _run([*runner, str(built), *map(str, arguments)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _sanitizer_library() -> str | None:
    """Where gcc has the address sanitizer, which must be in a process before anything else."""
    compiler = find_compiler()
    if compiler is None or sys.platform != "linux":
        return None
    asked = [*compiler.command, "-print-file-name=libasan.so"]
    path = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    return path if Path(path).is_absolute() else None
