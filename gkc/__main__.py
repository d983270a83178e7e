"""The way into ``gkc``, also as ``python -m gkc``, with or without its extras."""

from __future__ import annotations

from gkc.extras import extra_needed


def main() -> None:
    """Run the command, or exit 1 with one line if its extra is not installed."""
    with extra_needed("store", "gkc"):
        from gkc.cli import main as run

        run()


if __name__ == "__main__":
    main()
