"""The way into ``keep``, also as ``python -m keep``, with or without its extra."""

from __future__ import annotations

import sys

EXTRA = frozenset({"matplotlib", "onnx", "onnxruntime", "pyarrow", "tensorboardX", "torch"})
"""What the extra ``keep`` installs; ``make install TORCH=none`` leaves torch out."""


def main() -> None:
    """Run the command, or exit 1 with one line if its extra is not installed."""
    try:
        from keep.cli import main as run

        run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        missing = error.name.partition(".")[0]
        print(
            f"keep: {missing} is not installed; install the extra: make install TORCH=cpu, "
            "or pip install 'gkc[keep]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
