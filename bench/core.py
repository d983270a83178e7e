"""Decoded question to filled answer in one process: this checkout beside another, in turns.

Each answers from its own `file:` store, warm, in a process of its own; only one works at a time.

    python -m bench.core CHECKOUT

CHECKOUT is run with its own `.venv` if it has one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any, Final, TextIO

import uvloop

from bench.report import print_circumstances, spread
from bench.world import VERSION, Shape, export, questions
from gkc.settings import Settings
from gkc.store import open_reader

HERE: Final = Path(__file__).resolve().parents[1]
SHAPE: Final = Shape(users=20_000, items=200_000)
ROUNDS: Final = 25
QUESTIONS: Final = 200
F16: Final[dict[str, Any]] = {"dtype": "f16"}
CASES: Final[dict[str, tuple[int, dict[str, Any]]]] = {
    "B = 1": (1, F16),
    "B = 50": (50, F16),
    "B = 500": (500, F16),
    "B = 500, factored": (500, {"layout": "factored"}),
    "B = 10,000": (10_000, F16),
}


def main(other: Path) -> None:
    """Ask both in turns, and print how their times compare."""
    print_circumstances("bench.core")
    with ExitStack() as stack:
        ask = [stack.enter_context(_answering(root)) for root in (HERE, other.resolve())]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
        for number in range(ROUNDS):
            for name, (rows, options) in CASES.items():
                line = json.dumps({"rows": rows, "options": options, "seed": number})
                found = [_told(one, line) for one in (ask if number % 2 else ask[::-1])]
                here, there = found if number % 2 else found[::-1]
                times[name].append((here, there))
        for name, pairs in times.items():
            here, there = (1e6 * statistics.median(values) for values in zip(*pairs, strict=True))
            ratio = spread([a / b for a, b in pairs])
            print(f"{name:20} {here:7.0f} us here, {there:7.0f} us there: {ratio}")


@contextmanager
def _answering(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Run this file on a checkout's code until the block ends."""
    own = root / ".venv" / "bin" / "python"
    # With -P the folder of this file does not come before that of PYTHONPATH.
    command = [str(own) if own.exists() else sys.executable, "-P", __file__]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _told(process: subprocess.Popen[str], line: str) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    print(line, file=process.stdin, flush=True)
    while (told := process.stdout.readline()) and not told.startswith("took "):
        pass  # a log line
    if not told:
        raise SystemExit(f"ended: {process.args!r}")
    return float(told.removeprefix("took "))


def _door(module: str) -> Any:  # noqa: ANN401
    """Return a module of the HTTP door, which other checkouts call the service."""
    try:
        return import_module(f"gkc.http.{module}")
    except ModuleNotFoundError:
        return import_module(f"gkc.service.{module}")


async def _answer_all(store: str, asked: TextIO) -> None:
    reader = open_reader(store)
    service = _door("app").Service(Settings(store_url=store), reader)
    decode_json = _door("decoding").decode_json
    async with service.lifespan():
        await service.serving.resolve_anew([VERSION])  # waits until it is loaded
        answering = _door("answering").Answering(service.serving, _users(reader))
        for line in asked:
            case = json.loads(line)
            count = max(QUESTIONS // max(1, case["rows"] // 500), 10)
            drawn = questions(SHAPE, case["rows"], count, case["seed"])
            bodies = [json.dumps(body | case["options"]).encode() for body in drawn]
            decoded = [decode_json(body, case["rows"]) for body in bodies]
            seconds = []
            for question in decoded:
                began = process_time()
                await answering.answer(question)
                seconds.append(process_time() - began)
            print(f"took {statistics.median(seconds)}", flush=True)


def _users(reader: Any) -> Any:  # noqa: ANN401
    """Return what `Answering` reads users by: before format 2, a look-up around the reader."""
    try:
        lookup = import_module("gkc.service.lookup")
    except ModuleNotFoundError:
        return reader
    without = import_module("gkc.service.acceleration").accelerate()
    if without:
        raise SystemExit(f"the other checkout answers by numpy alone: {without}")
    return lookup.KnowledgeLookup(reader)


if __name__ == "__main__":
    if sys.argv[1:]:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            export(Path(scratch) / "bundle", SHAPE, f"file:{scratch}/store")
            uvloop.run(_answer_all(f"file:{scratch}/store", sys.stdin))
