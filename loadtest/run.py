"""Run Locust without its page against a running service and print percentiles.

    python -m loadtest.run --host http://127.0.0.1:8000 --seconds 30

Locust is installed from ``requirements/loadtest.txt`` into ``.venv-loadtest`` at the first run,
apart from the service's environment. HTML and CSV go to ``loadtest/results``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

from bench.environments import ROOT, separate_environment

RESULTS = ROOT / "loadtest" / "results"


def main() -> int:
    """Parse the command line, run, and return Locust's exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.run", description="Load test of a running service."
    )
    parser.add_argument("--host", default="http://127.0.0.1:8000", help="where the service listens")
    parser.add_argument("--seconds", type=int, default=30, help="how long")
    parser.add_argument(
        "--concurrency", type=int, default=4, help="simulated models asking at once"
    )
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second of each")
    parser.add_argument("--version", action="append", help="version to ask for; default: all")
    args = parser.parse_args()
    try:
        served = _served(args.host)
    except (urllib.error.URLError, OSError) as exc:
        print(f"no service at {args.host}: {exc}; start one with `make up`", file=sys.stderr)
        return 1
    if not served:
        print(f"{args.host} serves no version; export one with gkc-export", file=sys.stderr)
        return 1
    versions = args.version or list(served)
    RESULTS.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "LOADTEST_VERSIONS": ",".join(versions),
        "LOADTEST_USERS": str(max(served[v]["users"] for v in served)),
        "LOADTEST_ITEMS": str(max(served[v]["items"] for v in served)),
        "LOADTEST_RATE_PER_USER": str(args.rate),
    }
    return subprocess.run(
        [
            str(separate_environment("loadtest") / "locust"),
            *("--locustfile", str(ROOT / "loadtest" / "locustfile.py")),
            *("--headless", "--only-summary", "--host", args.host),
            *("--users", str(args.concurrency), "--run-time", f"{args.seconds}s"),
            *("--html", str(RESULTS / "report.html"), "--csv", str(RESULTS / "report")),
        ],
        env=environment,
        check=False,
    ).returncode


def _served(host: str) -> dict[str, dict[str, int]]:
    """Ask the service which versions it serves, and how many users and items each has."""
    with urllib.request.urlopen(f"{host}/versions", timeout=10) as answer:
        return {v["version"]: v for v in json.load(answer)["versions"]}


if __name__ == "__main__":
    sys.exit(main())
