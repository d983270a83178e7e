"""The commands run inside the test's process: the same main(), without a start each time.

The same functions as those of `tests.commands`, for tests in which nothing hangs on a process.
"""

from __future__ import annotations

import functools
import importlib
import io
import logging
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest import mock

import structlog

from tests import commands
from tests.commands import Place

_MODULES = {"gkc": "gkc.cli", "gkc-export": "exporter.cli", "keep": "keep.cli"}


def command(
    *args: object, place: Place | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end and return what it printed."""
    argv = [str(a) for a in args]
    main = importlib.import_module(_MODULES[argv[0]]).main
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        _process_restored(),
        mock.patch.dict("os.environ", {**(place.environment if place else {}), **(env or {})}),
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


def done(*args: object, place: Place | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed and return its standard output."""
    return commands.output(command(*args, place=place, env=env))


export = functools.partial(commands.export, run=done)


@contextmanager
def _process_restored() -> Iterator[None]:
    """Undo what a command sets up for its whole process: logging, and what SIGTERM does."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminate)
        structlog.configure(**configured)
        root.handlers[:] = handlers
        root.setLevel(level)
