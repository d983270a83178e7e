"""The way into ``gkc-export``, also as ``python -m exporter``, with or without its extra."""

from __future__ import annotations

from gkc.extras import extra_needed
from gkc.interrupts import ended_by_interrupts


def main() -> None:
    """Run the command, or exit 1 with one line if its extra is not installed."""
    with extra_needed("exporter", "gkc-export"):
        with ended_by_interrupts():
            from exporter.cli import main as run

        run()


if __name__ == "__main__":
    main()
