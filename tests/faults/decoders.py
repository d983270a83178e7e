"""Every input that the grammar knows, through the service in process: none is answered 500.

``python -m tests.faults.decoders --inputs 1000000 --seed 1`` prints what came of them as JSON, and
exits 1 if one was answered wrong or took more than a second of CPU; ``--first`` begins later.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import orjson
import safetensors.numpy

from gkc.http.app import Service
from tests.faults.grammar import SAFETENSORS, VERSIONS, Asked, Grammar
from tests.gkc.http.running import running
from tests.gkc.world import make_world

REFUSALS = frozenset((400, 404, 406, 413, 415, 422, 431))
KNOWLEDGE = {"type": "http", "method": "POST", "path": "/knowledge", "query_string": b""}
LIMIT_CPU_SECONDS = 1.0
_BEFORE_OTHERS = 64
"""So many in a row, then whatever else the event loop has to do."""
_FAULTS_TOLD = 20


@dataclass
class Result:
    """What came of a run's inputs."""

    seed: int
    inputs: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    worst_cpu_seconds: float = 0.0
    worst_input: int = 0
    faults: list[str] = field(default_factory=list)

    def note(self, number: int, asked: Asked, cpu_seconds: float, answer: Answer) -> None:
        self.inputs += 1
        self.statuses[answer.status] += 1
        if cpu_seconds > self.worst_cpu_seconds:
            self.worst_cpu_seconds, self.worst_input = cpu_seconds, number
        try:
            assert cpu_seconds <= LIMIT_CPU_SECONDS, f"{cpu_seconds:.2f} s of CPU"
            check(asked, answer)
        except Exception as exc:  # noqa: BLE001 - what cannot be read is wrong, too
            sent = f"{asked.headers!r:.400} {asked.body!r:.400}"
            self.faults.append(f"--seed {self.seed} --first {number}: {exc!r:.400} after {sent}")


@dataclass
class Answer:
    """An answer as a server is told to send it."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    async def take(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.status
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]


def run(inputs: int, seed: int, first: int = 0) -> Result:
    """Ask a service on a store of a few small versions."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"file:{folder}"
        for number, (version, strings) in enumerate(VERSIONS.items()):
            world = make_world(
                version,
                number,
                "f32" if version == "largest" else "f16",
                value=1e30 if version == "largest" else None,
                dim=5 if version == "wide" else 4,
                defaults=version == "wide",
                strings=strings,
            )
            world.publish(url)
        return asyncio.run(_run(url, inputs, seed, first))


async def _run(url: str, inputs: int, seed: int, first: int) -> Result:
    result = Result(seed)
    # Ctrl-C ends it, and what came so far is told.
    async with running(url) as (_, service):
        with suppress(asyncio.CancelledError):
            for number in range(first, first + inputs):
                asked = Grammar(Random(seed << 32 | number)).request()
                started = time.process_time()
                answer = await ask(service, asked)
                result.note(number, asked, time.process_time() - started, answer)
                if number % _BEFORE_OTHERS == 0:
                    await asyncio.sleep(0)
                if len(result.faults) == _FAULTS_TOLD:
                    break
    return result


async def ask(service: Service, asked: Asked) -> Answer:
    messages = [{"type": "http.request", "body": asked.body, "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()  # the caller stays
        return messages.pop()

    answer = Answer()
    await service(KNOWLEDGE | {"headers": asked.headers}, receive, answer.take)
    return answer


def check(asked: Asked, answer: Answer) -> None:
    """Check that an answer is of the right shape, by other readers than ours."""
    media_type = answer.headers[b"content-type"].decode()
    assert int(answer.headers[b"content-length"]) == len(answer.body)
    if answer.status != 200:
        may_be_late = any(name == b"x-request-timeout-ms" for name, _ in asked.headers)
        assert answer.status in REFUSALS or (answer.status == 504 and may_be_late), answer
        assert media_type == "application/problem+json"
        problem = json.loads(answer.body)
        assert problem["status"] == answer.status
        assert all(type(problem[name]) is str for name in ("type", "title", "detail"))
        return
    if dict(asked.headers[:1]) == {b"content-type": SAFETENSORS}:
        rows, versions = _asked_in_safetensors(asked.body)
    else:
        rows, versions = _asked_in_json(asked.body)
    if media_type == SAFETENSORS.decode():
        _check_tensors(answer.body, rows, versions)
    else:
        assert media_type == "application/json"
        told = orjson.loads(answer.body)
        width = max((end for _, end in told["parts"].values()), default=0)
        assert {len(row) for row in told["knowledge"]} <= {width}
        assert {(len(row), *row) >= (4,) and max(row) <= 2 for row in told["status"]} <= {True}
        assert len(told["knowledge"]) == len(told["status"]) == rows
        assert list(told["versions"]) == versions


def _asked_in_json(body: bytes) -> tuple[int, list[str]]:
    """Return how many rows a question asks for, and of which versions."""

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON")

    def integer(digits: str) -> float:
        return int(digits) if len(digits) < 100 else float("inf")  # Python refuses very long ones

    question = json.loads(body.decode(), parse_constant=refuse, parse_int=integer)
    if "quadruples" in question:
        rows = question["quadruples"]
        for row in rows:
            _check_ids([row["u"], row["i"], row.get("c", 0) or 0])
        return len(rows), _distinct(row["v"] for row in rows)
    columns = {n: _listed(question[n]) for n in "uicv" if question.get(n) is not None}
    _check_ids([x for n in "ui" for x in columns[n]])
    _check_ids([x for x in columns.get("c", ()) if x is not None])
    return _rows(map(len, columns.values())), _distinct(columns["v"])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_ids(ids: Iterable[object]) -> None:
    assert {type(id_) for id_ in ids} <= {int, str}


def _distinct(versions: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(versions))


def _rows(lengths: Iterable[int]) -> int:
    different = set(lengths) - {1}
    assert len(different) <= 1
    return different.pop() if different else 1


def _asked_in_safetensors(body: bytes) -> tuple[int, list[str]]:
    tensors = safetensors.numpy.load(body)
    metadata = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])["__metadata__"]
    versions = json.loads(metadata["v"]) if metadata["v"].startswith("[") else metadata["v"]
    lengths = [len(tensors["c_given"])] if "c_given" in tensors else []
    for name in set("uic") & set(tensors):
        offsets = tensors.get(f"{name}_offsets")
        lengths.append(len(tensors[name]) if offsets is None else len(offsets) - 1)
    return _rows([*lengths, len(_listed(versions))]), _distinct(_listed(versions))


def _check_tensors(body: bytes, rows: int, versions: list[str]) -> None:
    tensors = safetensors.numpy.load(body)
    metadata = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])["__metadata__"]
    status = tensors["status"]
    assert status.dtype == np.uint8
    assert status.shape == (rows, 4)
    assert status.max(initial=0) <= 2
    assert list(json.loads(metadata["versions"])) == versions
    if "knowledge" in tensors:
        spans = json.loads(metadata["parts"]).values()
        width = max((end for _, end in spans), default=0)
        assert tensors["knowledge"].shape == (rows, width)
    for name in ("user", "user_category"):
        if name in tensors:
            assert tensors[f"{name}_index"].shape == (rows,)
            assert tensors[f"{name}_index"].max(initial=-1) < len(tensors[name])


def main() -> int:
    """Run as many inputs as asked for, and tell what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    result = run(asked.inputs, asked.seed, asked.first)
    sys.stdout.write(json.dumps(vars(result), indent=2) + "\n")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
