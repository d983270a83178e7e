"""``make demo``: the whole main job on real input, through the real commands.

Fetch MovieLens 1M, pretrain up to two days, bundle and export both as versions, serve them, ask,
and compare downstream models without and with the knowledge as served. Everything lives in a
temporary directory that is removed at the end; only the download stays in the user's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import numpy as np

from gkc.arrays import I64
from gkc.errors import GkcError
from gkc.knowledge import PARTS, SAFETENSORS
from keep.checkpoint import load_checkpoint
from keep.comparison import Result, evaluate, report
from keep.errors import ProblemError
from keep.log import Log, open_log
from keep.served import ServedKnowledge
from keep.serving import BIN, serving

JSON = "application/json"
VERSIONS = {6: "ml1m-day6", 7: "ml1m-day7"}
"""Day that a version has learned up to, and the version's name."""
REQUESTS = 300
"""Requests timed in each format."""
CANDIDATES = 500
"""Items asked for one user."""
SEEDS = (1, 2, 3)
"""Seeds of the downstream models."""


class DemoError(ProblemError):
    """A step of the demo failed."""


@dataclass
class Demo:
    """Where the demo works, and how long its steps took."""

    work: Path
    store: str
    namespace: str
    seconds: dict[str, float] = field(default_factory=dict)
    exported: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command: this store, and a namespace of the demo's own."""
        return {**os.environ, "GKC_STORE_URL": self.store, "GKC_NAMESPACE": self.namespace}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Time a step."""
        began = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began

    def run(self, step: str, command: str, *arguments: object) -> None:
        """Run one of our commands, its output going to ours, and time it as a step."""
        words = [command, *map(str, arguments)]
        print(f"\n$ {' '.join(words)}", flush=True)
        with self.timed(step):
            done = subprocess.run([BIN / command, *words[1:]], env=self.environment, check=False)
        if done.returncode != 0:
            raise DemoError(step, f"{words[0]} exited {done.returncode}; its message is above")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; exit 1 if a step failed or the teacher does not beat the item click rate."""
    parser = argparse.ArgumentParser(prog="python -m keep.recipes.demo", description=__doc__)
    parser.add_argument("--store", help="Store URL; default: an embedded store that is removed.")
    parser.add_argument("--log-cache", type=Path, help="Keep the log here and reuse it.")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    work = Path(tempfile.mkdtemp(prefix="gkc-demo-"))
    store = options.store or f"file:{work / 'store'}"
    # A namespace of our own: a store that was given may hold others' versions.
    demo = Demo(work, store, f"demo-{secrets.token_hex(4)}")
    try:
        run(demo, options.log_cache or work / "log", tidy=options.store is not None)
    except GkcError as exc:
        print(f"demo: {exc}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that the service is stopped on the way out."""
    raise SystemExit(128 + number)


def run(demo: Demo, log_path: Path, tidy: bool) -> None:
    """Do the main job, step by step; a tidy one deletes its versions, since the store stays.

    Raises
    ------
    DemoError
        If a command fails, the service does not come up, or the teacher does not beat the item
        click rate.
    """
    if not (log_path / "log.json").exists():
        demo.run("fetch", "keep", "fetch", "movielens-1m", "--out", log_path)
    log = open_log(log_path)
    try:
        results = _main_job(demo, log, log_path)
    finally:
        for version in demo.exported if tidy else ():
            # The service has stopped: nobody needs a grace period.
            demo.run("tidy up", "gkc", "versions", "delete", version, "--yes", "--grace-seconds", 0)
    summarise(demo, log, results)


def _main_job(demo: Demo, log: Log, log_path: Path) -> list[Result]:
    """Pretrain, bundle, export, serve, ask and compare."""
    first, last = VERSIONS
    checkpoint = demo.work / "checkpoint"
    options = ("--log", log_path, "--out", checkpoint)
    demo.run("pretrain to day 6", "keep", "pretrain", *options, "--until", first)
    _bundle_and_export(demo, log_path, checkpoint, first)
    resume = ("--from-checkpoint", checkpoint, "--until", last)
    demo.run("pretrain day 7", "keep", "pretrain", *options, *resume)
    _bundle_and_export(demo, log_path, checkpoint, last)
    demo.run("list versions", "gkc", "versions", "list", "--store", demo.store)
    print(f"\n$ gkc serve --store {demo.store}", flush=True)
    with ExitStack() as stack:
        with demo.timed("start the service"):
            output = demo.work / "serve.log"
            url = stack.enter_context(serving(demo.store, demo.environment, output))
        ask(demo, url, log)
        return compare(demo, url, log, checkpoint)


def _bundle_and_export(demo: Demo, log_path: Path, checkpoint: Path, day: int) -> None:
    folder = demo.work / f"bundle-day{day}"
    source = ("--checkpoint", checkpoint, "--log", log_path, "--out", folder)
    demo.run(f"bundle day {day}", "keep", "bundle", *source)
    # Nothing is evicted or replaced here, so there is nobody to give grace to.
    target = ("--version", VERSIONS[day], "--bundle", folder, "--store", demo.store)
    demo.run(f"export day {day}", "gkc-export", *target, "--grace-seconds", 0)
    demo.exported.append(VERSIONS[day])


def ask(demo: Demo, url: str, log: Log) -> None:
    """Ask for one user and many items, in JSON and in safetensors, and print what came."""
    day = log.day(log.info.test_day)
    user = int(day.user[day.sub_domain][0])
    items = np.unique(day.item)[:CANDIDATES]
    latest = list(VERSIONS.values())[-1]
    body: dict[str, object] = {"u": user, "i": items.tolist(), "v": latest}
    with (
        demo.timed("ask"),
        closing(HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection,
        ServedKnowledge(url, latest) as served,
    ):
        print(f"\n1 user x {len(items)} items, {REQUESTS} requests each, one after another:")
        for name, accept in (("JSON", JSON), ("safetensors", SAFETENSORS)):
            times, answer = [], b""
            for _ in range(REQUESTS):
                began = time.perf_counter()
                answer = post(connection, body, accept)
                times.append(1000 * (time.perf_counter() - began))
            p50, p99 = np.percentile(times, [50, 99])
            print(f"  {name:<12} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   {len(answer):,} bytes")
        told = json.loads(post(connection, body, JSON))["knowledge"]
        as_json = np.array(told, dtype=np.float32)
        if not np.array_equal(as_json, served(np.full(len(items), user), items)):
            raise DemoError("ask", "JSON and safetensors gave different numbers")
        print(f"  {as_json.shape[1]} numbers a row, equal to the bit in both formats")
        print_status(served.status_counts)
        both = {**body, "i": items[:2].tolist(), "v": list(VERSIONS.values())}
        generations = json.loads(post(connection, both, JSON))["versions"]
        print(f"  two versions in one request: {generations}")


def post(connection: HTTPConnection, body: dict[str, object], accept: str) -> bytes:
    """Ask for knowledge as a program without our client does; return the answer's bytes.

    Raises
    ------
    DemoError
        If the service is gone, or refuses.
    """
    headers = {"Content-Type": JSON, "Accept": accept}
    try:
        connection.request("POST", "/knowledge", json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, HTTPException) as exc:
        raise DemoError("ask", f"POST /knowledge was not answered: {exc}") from exc
    if answer.status != 200:
        raise DemoError("ask", f"POST /knowledge answered {answer.status}: {content[:500]!r}")
    return content


def print_status(counts: I64) -> None:
    """Print how many rows of each part, (parts, 3), were absent, found, or got the default."""
    for part, (absent, found, default) in zip(PARTS, counts.tolist(), strict=True):
        print(f"  {part:<14} found {found:>6}   default {default:>6}   absent {absent:>6}")


def compare(demo: Demo, url: str, log: Log, checkpoint: Path) -> list[Result]:
    """Train downstream models without knowledge and with it, read from the service."""
    info = log.info
    latest = list(VERSIONS.values())[-1]
    print("\ncomparing downstream models on the test day ...", flush=True)
    with demo.timed("evaluate"), ServedKnowledge(url, latest) as served:
        state = load_checkpoint(checkpoint)
        results = evaluate(log, state, served, info.train_days, info.test_day, SEEDS)
    print("status of the rows that the downstream models asked for:")
    print_status(served.status_counts)
    return results


def summarise(demo: Demo, log: Log, results: list[Result]) -> None:
    """Print figures with the mapping beside them, and the steps' times.

    Raises
    ------
    DemoError
        If the teacher does not beat the item click rate.
    """
    print(f"\n{report(results)}")
    print(f"\nhow the log was made: {log.info.source}")
    print("\nseconds of each step:")
    for step, seconds in demo.seconds.items():
        print(f"  {step:<20}{seconds:>8.1f}")
    fetched = demo.seconds.get("fetch", 0.0)
    rest = sum(demo.seconds.values()) - fetched
    print(f"  fetch (download and conversion) {fetched:.1f} s, all the rest {rest:.1f} s")
    clicked, taught = results[0].value, results[1].value
    if not taught > clicked:
        raise DemoError(
            "evaluate", f"the teacher ({taught:.4f}) does not beat the click rate ({clicked:.4f})"
        )


if __name__ == "__main__":
    sys.exit(main())
