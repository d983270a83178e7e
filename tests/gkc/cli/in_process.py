"""The ``gkc`` command run inside the test's process: the same main(), without a start each time."""

from __future__ import annotations

import io
import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest import mock

import structlog

from gkc.cli import main
from tests.commands import Place


def gkc(*args: object, place: Place) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it printed."""
    argv = ["gkc", *map(str, args)]
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        _logging_restored(),
        mock.patch.dict("os.environ", place.environment),
        mock.patch("sys.argv", argv),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as exc:
            code = exc.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def done(*args: object, place: Place) -> str:
    """Run a command that must succeed and return its standard output."""
    result = gkc(*args, place=place)
    assert result.returncode == 0, f"{args} exited {result.returncode}:\n{result.stderr}"
    return result.stdout


@contextmanager
def _logging_restored() -> Iterator[None]:
    """Undo the command's set-up of logging, which is that of its whole process."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        structlog.configure(**configured)
        root.handlers[:] = handlers
        root.setLevel(level)
