"""``python -m exporter`` is ``gkc-export``."""

from exporter.cli import main

main()
