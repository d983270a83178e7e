"""Run the measurements of this machine one after the other, and write docs/performance.md.

python -m bench.run [NAME ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

MEASUREMENTS = (
    "throughput",
    "latency",
    "client",
    "string_ids",
    "join",
    "join_redis",
    "core",
    "against",
    "open_loop",
    "growth",
    "publication",
    "attacks",
    "overload",
    "outage",
    "guards",
    "start",
    "export",
    "stored_bytes",
    "profile",
    "feast",
)
"""Modules of ``bench`` in the order of the page; each module's docstring says what it measures."""


def main() -> int:
    """Run what was named, or everything; return 1 if any of it failed, or the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.run",
        description="Measure this machine and write docs/performance.md.",
    )
    parser.add_argument("name", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; default: all")
    names = parser.parse_args().name or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"no measurement is named {', '.join(unknown)}")
    failed = []
    for name in names:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", "--save"]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if subprocess.run([sys.executable, "-m", "bench.performance"], check=False).returncode:
        failed.append("performance")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
