"""Run the measurements of this machine one after the other and print them.

python -m bench.run [NAME ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

MEASUREMENTS = {
    "requests": "requests over HTTP, as ratios to an empty request of the same service",
    "id_lookup": "finding the rows of 500 ids in 1 and 10 million",
    "redis_bytes": "bytes that Redis stores per byte of vectors",
    "export_memory": "peak memory of an export, by number of users",
}


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
        print(f"\n== {name}: {MEASUREMENTS[name]}", flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
