"""The way into ``keep``, also as ``python -m keep``, with or without its extra."""

from __future__ import annotations

from gkc.extras import extra_needed
from gkc.interrupts import ended_by_interrupts


def main() -> None:
    """Run the command, or exit 1 with one line if its extra is not installed."""
    with extra_needed("keep", "keep", make="make install TORCH=cpu"):
        with ended_by_interrupts():
            from keep.cli import main as run

        run()


if __name__ == "__main__":
    main()
