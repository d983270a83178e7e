"""Time of a request over HTTP, as a ratio to an empty request (GET /livez) of the same service.

One process asks, one connection, one request at a time; the kinds of request take turns in each
round. Ratios are of the medians within a round; what is printed is the median round and the range.
The asking process is Python as well, so its own time is part of both sides of each ratio.

    python -m bench.requests [--store redis://127.0.0.1:6379]
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated

import typer

from bench.bundles import USER_ID_STEP, write_bundle
from bench.processes import free_port, our_service, serving
from bench.report import print_circumstances, spread

VERSION = "bench-requests"
USERS = 20_000
ITEMS = 100_000
PAIRS = 40
DIM = 64
ROUNDS = 15
REQUESTS_PER_ROUND = 30
SAFETENSORS = "application/x-safetensors"
KINDS = {
    "JSON answer": ("application/json", {}),
    "safetensors f32": (SAFETENSORS, {}),
    "safetensors f16": (SAFETENSORS, {"dtype": "f16"}),
    "factored": (SAFETENSORS, {"layout": "factored"}),
}


def main(
    store: Annotated[str, typer.Option(help="Store URL; a directory of its own by default.")] = "",
) -> None:
    """Export synthetic knowledge, serve it, time requests and print a table."""
    print_circumstances("bench.requests")
    with tempfile.TemporaryDirectory() as scratch:
        place = store or f"file:{scratch}/store"
        bundle = Path(scratch) / "bundle"
        write_bundle(bundle, USERS, PAIRS, DIM)
        _command("gkc-export", "--version", VERSION, "--bundle", str(bundle), "--store", place)
        try:
            port, cores = free_port(), os.sched_getaffinity(0)
            with serving("gkc serve", our_service(place, port), port, cores, "/readyz"):
                _measure(HTTPConnection("127.0.0.1", port))
        finally:
            _command("gkc", "versions", "delete", VERSION, "--yes", "--store", place)


def _measure(connection: HTTPConnection) -> None:
    cases = [(rows, kind) for rows in (1, 50, 500) for kind in KINDS]
    ratios: dict[tuple[int, str], list[float]] = {case: [] for case in cases}
    times: dict[tuple[int, str], list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        empty = statistics.median(_ask_empty(connection) for _ in range(REQUESTS_PER_ROUND))
        for case in cases:
            seconds = statistics.median(_ask(connection, *case) for _ in range(REQUESTS_PER_ROUND))
            ratios[case].append(seconds / empty)
            times[case].append(seconds * 1000)
    print(f"{'rows':>5}  {'answer':16}  {'times an empty request':24}  p50 in ms")
    for rows, kind in cases:
        ratio, milliseconds = ratios[rows, kind], times[rows, kind]
        print(f"{rows:>5}  {kind:16}  {spread(ratio):24}  {spread(milliseconds, 3)}")


def _ask_empty(connection: HTTPConnection) -> float:
    began = time.perf_counter()
    connection.request("GET", "/livez")
    connection.getresponse().read()
    return time.perf_counter() - began


def _ask(connection: HTTPConnection, rows: int, kind: str) -> float:
    accept, extra = KINDS[kind]
    body = {
        "u": random.randrange(USERS) * USER_ID_STEP,
        "i": [random.randrange(ITEMS) for _ in range(rows)],
        "v": VERSION,
        **extra,
    }
    raw = json.dumps(body)
    began = time.perf_counter()
    connection.request(
        "POST", "/knowledge", raw, {"Content-Type": "application/json", "Accept": accept}
    )
    answer = connection.getresponse()
    content = answer.read()
    seconds = time.perf_counter() - began
    if answer.status != 200:
        raise SystemExit(f"the service answered {answer.status}: {content[:500]!r}")
    return seconds


def _command(name: str, *args: str) -> None:
    quick = ["--grace-seconds", "0"]
    command = [str(Path(sys.executable).parent / name), *args, *quick]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    typer.run(main)
