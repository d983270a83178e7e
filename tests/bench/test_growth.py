"""A curve asks for what its axis says and for nothing else that differs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import growth
from bench.growth import (
    ALL_DISTINCT,
    ALL_ROWS,
    DTYPE_ROWS,
    PARTS,
    Found,
    _Bench,
    _by_distinct,
    _decades,
)
from bench.load import Load, write_bodies
from bench.processes import Server
from bench.world import Shape
from gkc.settings import Settings
from keep.served import SAFETENSORS, ServedKnowledge, decode_safetensors
from tests.bench.loads import a_load

CORES = os.sched_getaffinity(0)
NOBODY = Server("nobody", 0, 0)
ROUNDS = 2


@dataclass(frozen=True)
class Asked:
    """One run: what its requests are like, and what answered the first of them."""

    body: dict[str, Any]
    concurrency: int
    rows: int
    width: int
    dtype: str
    processes: int


def ask_once(server: Server, body: dict[str, Any], concurrency: int) -> Asked:
    with ServedKnowledge(f"http://127.0.0.1:{server.port}", "") as client:
        answer = decode_safetensors(client.ask(body, SAFETENSORS))
    values = answer.get("knowledge", answer.get("item"))
    assert values is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text(encoding="ascii")
    return Asked(
        body=body,
        concurrency=concurrency,
        rows=len(body["i"]),
        width=values.shape[1],
        dtype=str(values.dtype),
        processes=len(children.split()),
    )


@pytest.fixture
def measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], tuple[Found, list[Asked]]]:
    """Return what does one part: real services of few users, a request instead of each run.

    The k-th run takes k ms, and answers k a second.
    """
    monkeypatch.setattr(growth, "SMALL", Shape(users=100, items=100, pairs=2))
    monkeypatch.setattr(growth, "BODIES", 10)
    monkeypatch.setattr(growth, "ALL_DISTINCT", (1, 5))
    runs: list[Asked] = []
    number = count(1)

    def load(server: Server, bodies: Path, *_: object, concurrency: int, **__: object) -> Load:
        first, *_others = bodies.read_text(encoding="ascii").splitlines()
        runs.append(ask_once(server, json.loads(first), concurrency))
        k = next(number)
        return a_load(p50_ms=k, rate=k)

    def measure(part: str) -> tuple[Found, list[Asked]]:
        most = {"items": 100_000, "users": 10_000}
        found = PARTS[part](_Bench(ROUNDS, 1, CORES, CORES), tmp_path / part, most)
        return found, runs

    monkeypatch.setattr(growth, "load", load)
    return measure


def usual(asked: Asked) -> bool:
    """Tell whether it is what the page says of every curve that says nothing else."""
    found = (asked.concurrency, asked.rows, asked.width, asked.dtype)
    return found == (1, 500, 4 * 64, "float16") and isinstance(asked.body["u"], int)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "key", "sizes"),
    [("items", "i", [10_000, 100_000]), ("users", "u", [1_000, 10_000])],
)
def test_versions_of_each_size_are_asked_in_turns(
    part: str,
    key: str,
    sizes: list[int],
    measured: Callable[[str], tuple[Found, list[Asked]]],
) -> None:
    ((figure, *memory), (curve,)), runs = measured(part)
    assert all(usual(run) for run in runs)
    assert [run.body["v"] for run in runs] == [f"{part}-{size}" for size in sizes] * ROUNDS
    if key == "i":
        assert [max(run.body["i"]) // 10_000 for run in runs] == [0, 9] * ROUNDS
    assert curve.lines == {"f16": [(sizes[0], [1, 3]), (sizes[1], [2, 4])]}
    assert [(one.name, one.values) for one in memory] == (
        [("memory, 10,000 users of the version to 1,000", [2])] if part == "users" else []
    )
    assert figure.name == f"p50 with {sizes[1]:,} {part} to {sizes[0]:,}"
    assert list(figure.values) == [2, 4 / 3]
    assert figure.wanted == ("≤ 1.3 / ≤ 1.15" if part == "items" else "")


@pytest.mark.redis
@pytest.mark.slow
def test_widths_are_those_of_the_answer(
    measured: Callable[[str], tuple[Found, list[Asked]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "ALL_WIDTHS", (16, 192))
    (figures, (curve,)), runs = measured("widths")
    assert figures == []
    widths = [width for width, _ in curve.lines["f16"]]
    assert widths == [16, 192]
    assert [run.width for run in runs] == [4 * width for width in widths] * ROUNDS
    assert all(usual(dataclasses.replace(run, width=4 * 64)) for run in runs)


@pytest.mark.redis
@pytest.mark.slow
def test_what_is_stored_is_set_against_halves_answered_as_halves(
    measured: Callable[[str], tuple[Found, list[Asked]]],
) -> None:
    (figures, curves), every = measured("dtypes")
    stored = ["f16", "f16", "f32", "f32", "int8", "int8"]
    runs, by_rows = every[: len(stored) * ROUNDS], every[len(stored) * ROUNDS :]
    assert [run.body["v"] for run in runs] == stored * ROUNDS
    assert [run.dtype for run in runs] == ["float16", "float32"] * 3 * ROUNDS
    assert [(run.body["v"], run.rows, run.dtype) for run in by_rows] == [
        (dtype, rows, "float16") for dtype in ("f16", "f32", "int8") for rows in DTYPE_ROWS * ROUNDS
    ]
    (curve,) = curves
    assert list(curve.lines) == ["stored as f16", "stored as f32", "stored as int8"]
    assert {figure.name: list(figure.values) for figure in figures} == {
        "p50, stored f16 as f32, to stored f16 as f16": [2, 8 / 7],
        "p50, stored f32 as f16, to stored f16 as f16": [3, 9 / 7],
        "p50, stored f32 as f32, to stored f16 as f16": [4, 10 / 7],
        "p50, stored int8 as f16, to stored f16 as f16": [5, 11 / 7],
        "p50, stored int8 as f32, to stored f16 as f16": [6, 12 / 7],
    }


@pytest.mark.redis
@pytest.mark.slow
def test_two_workers_are_set_against_one(
    measured: Callable[[str], tuple[Found, list[Asked]]],
) -> None:
    ((figure,), (curve,)), runs = measured("workers")
    (line,) = curve.lines.values()
    assert [workers for workers, _ in line] == [1, 2]
    assert [list(rates) for _, rates in line] == [[1, 3], [2, 4]]
    assert list(figure.values) == [2, 4 / 3]
    assert runs[-1].processes - runs[0].processes >= 1
    assert {run.concurrency for run in runs} == {16}


@pytest.mark.redis
@pytest.mark.slow
def test_one_service_is_asked_along_every_axis(
    measured: Callable[[str], tuple[Found, list[Asked]]],
) -> None:
    (figures, curves), runs = measured("one-service")
    of = iter(runs)

    def take(points: int) -> Iterator[Asked]:
        """Take the runs of a line in its first round, and skip the other rounds."""
        first = [next(of) for _ in range(points)]
        for _ in range(points * (ROUNDS - 1)):
            next(of)
        return iter(first)

    assert all(usual(run) for run in take(2))  # the service with one version, then that with all
    for layout in ("rows", "factored"):
        line = list(take(len(ALL_ROWS)))
        assert [run.rows for run in line] == list(ALL_ROWS)
        assert {run.body.get("layout", "rows") for run in line} == {layout}
    assert [np.unique(run.body["u"]).size for run in take(2)] == [1, 5]
    assert [run.concurrency for run in take(5)] == [1, 4, 16, 64, 256]
    versions = [np.unique(run.body["v"]).tolist() for run in take(5)]
    assert versions == [[f"v{k}" for k in range(1, n + 1)] for n in range(1, 6)]
    assert next(of, None) is None
    by_name = {curve.name: curve for curve in curves}
    places = {
        name: [at for at, _ in points]
        for name, curve in by_name.items()
        for points in curve.lines.values()
    }
    assert places == {
        "growth-rows": list(ALL_ROWS),
        "growth-distinct": [1, 5],
        "growth-concurrency": [1, 4, 16, 64, 256],
        "growth-concurrency-p50": [1, 4, 16, 64, 256],
        "growth-concurrency-memory": [1, 4, 16, 64, 256],
        "growth-versions": [1, 2, 3, 4, 5],
    }
    served, named, *memory = figures
    assert list(memory[0].values) == [2 / 1]  # as made up, of the first round
    assert [figure.name for figure in memory] == [
        "memory, 5 versions served to 1",
        "memory, 10,000 rows of a request to 1",
        "memory, 5 distinct users in 500 rows to 1",
        "memory, 256 requests under way to 1",
        "memory, 5 versions that a request names to 1",
    ]
    mixed = dict(by_name["growth-versions"].lines["f16"])
    assert list(served.values) == [2 / 1, 4 / 3]  # the first runs of all
    assert served.wanted == "≤ 1.1 / ≤ 1.05"
    assert list(named.values) == [five / one for five, one in zip(mixed[5], mixed[1], strict=True)]
    assert named.wanted == ""


def test_rows_name_as_many_users_as_the_axis_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def load(_: Server, bodies: Path, *__: object, **___: object) -> Load:
        lines = bodies.read_text(encoding="ascii").splitlines()
        seen.append({len(set(json.loads(line)["u"])) for line in lines})
        return a_load()

    monkeypatch.setattr(growth, "load", load)
    _by_distinct(_Bench(1, 1, CORES, CORES), NOBODY, tmp_path, "v1")
    assert seen == [{users} for users in ALL_DISTINCT]


def test_the_service_takes_the_longest_request_as_it_is() -> None:
    assert Settings(store_url="file:/nowhere").max_rows >= max(ALL_ROWS)


def test_sizes_go_up_to_the_most_by_tens() -> None:
    assert _decades(10_000, 10_000_000) == [10_000, 100_000, 1_000_000, 10_000_000]
    assert _decades(10_000, 999_999) == [10_000, 100_000]


@pytest.mark.slow
@pytest.mark.usefixtures("wrk")
def test_a_failed_request_ends_it(refusing: Server, empty: Server, tmp_path: Path) -> None:
    bodies = write_bodies([{}], tmp_path / "bodies")
    bench = _Bench(1, 1, CORES, CORES)
    (found,) = bench.runs(empty, {"fine": bodies})["fine"]
    assert found.requests > 0
    with pytest.raises(SystemExit, match=r"refused: (\d+) of \1 requests failed"):
        bench.runs(refusing, {"refused": bodies})
