"""Run the measurements of this machine one after the other and print them.

python -m bench.run [NAME ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

MEASUREMENTS: dict[str, tuple[str, ...]] = {
    "requests": (),
    "id_lookup": (),
    "redis_bytes": (),
    "export_memory": ("--users", "100000", "--users", "1000000"),
}
"""Each measurement's module, and how it is called here; its own docstring says what it measures."""


def main() -> int:
    """Run what was named, or everything; return 1 if any of it failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; default: all")
    names = parser.parse_args().name or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"no measurement is named {', '.join(unknown)}")
    failed = []
    for name in names:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", *MEASUREMENTS[name]]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
