"""``python -m gkc``: the same as the ``gkc`` command."""

from __future__ import annotations

from gkc.cli import main

if __name__ == "__main__":
    main()
