"""The way into ``gkc``, also as ``python -m gkc``, with or without its extras."""

from __future__ import annotations

import sys

from gkc.extras import extra_needed
from gkc.interrupts import ended_by_interrupts, exit_when_told


def main() -> None:
    """Run the command, or exit 1 with one line if its extra is not installed."""
    if sys.argv[1:2] == ["serve"]:  # which has most to import, and is told to stop by signals
        exit_when_told()
    with extra_needed("store", "gkc"):
        with ended_by_interrupts():
            from gkc.cli import main as run

        run()


if __name__ == "__main__":
    main()
