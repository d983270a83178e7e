"""Commands without the extra that they need: one line that names it, instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra_needed(extra: str, command: str, make: str = "make install") -> Iterator[None]:
    """Import and run a command; where a package of an extra is missing, say so and exit 1.

    Parameters
    ----------
    extra : str
        The extra that brings all that the command needs.
    command : str
        Its name.
    make : str
        What brings the same in a checkout.

    Raises
    ------
    ModuleNotFoundError
        If the missing module is of no extra of ours: that is a fault, and shows where.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.lower() not in _modules_asked_for():
            raise
        print(
            f"{command}: {missing} is not installed; install the extra: {make}, "
            f"or pip install 'gkc[{extra}]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


def _modules_asked_for() -> set[str]:
    """Return the modules of every package that ours asks for; all are called like their package."""
    # Every command begins with this module, and only one that fails needs these.
    import re
    from importlib.metadata import PackageNotFoundError, requires

    try:
        asked_for = requires("gkc") or []
    except PackageNotFoundError:
        return set()
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in asked_for]
    return {name.replace("-", "_").lower() for name in names}
