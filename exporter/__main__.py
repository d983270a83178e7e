"""The way into ``gkc-export``, also as ``python -m exporter``, with or without its extra."""

from __future__ import annotations

import sys

EXTRA = frozenset({"onnxruntime", "pyarrow"})
"""What the extra ``exporter`` installs; the service runs without them."""


def main() -> None:
    """Run the command, or exit 1 with one line if its extra is not installed."""
    try:
        from exporter.cli import main as run

        run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        missing = error.name.partition(".")[0]
        print(
            f"gkc-export: {missing} is not installed; install the extra: make install, "
            "or pip install 'gkc[exporter]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
