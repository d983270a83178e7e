"""Ours is set against the empty route and the plain service, whose answers it must equal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from bench import throughput
from bench.bundles import USER_ID_STEP
from bench.load import Load
from bench.plain_keys import load_plain_keys
from bench.processes import Server, free_port, reference, serving
from bench.results import Figure
from bench.throughput import TARGETS, WIRE_TARGETS, _Case, _figures, check_answers, measure
from bench.world import VERSION, Shape, World
from tests.bench.loads import a_load

TINY = Shape(users=5, items=30, pairs=3, categories=4, dim=8)
ROWS = 5


def ran(server: str, rows: int, layout: str, *runs: tuple[float, float]) -> _Case:
    """Make up a case, with the rate and the CPU time of each round for one row."""
    loads = [a_load(rate=rate / rows, cpu_ms=rows * cpu_ms) for rate, cpu_ms in runs]
    return _Case(Server(server, 0, 0), rows, layout, Path(), "", loads)


def figures_of() -> dict[str, Figure]:
    cases = [ran("plain", 500, "", (70, 9), (100, 9))]
    for rows in (1, 50, 500):
        cases.append(ran("empty", rows, "", (1000, 0.1), (2000, 0.2)))
        cases.append(ran("wire", rows, "", (800, 0.1), (2000, 0.2)))
        cases.append(ran("gkc serve", rows, "rows", (700, 0.2), (1600, 0.25)))
    cases.append(ran("gkc serve", 500, "factored", (900, 0.125), (1500, 0.2)))
    figures = _figures(cases)
    by_name = {figure.name: figure for figure in figures}
    assert len(by_name) == len(figures)
    return by_name


@pytest.mark.parametrize(
    ("rows", "layout", "rate", "cpu"),
    [
        (1, "rows", [0.7, 0.8], [0.5, 0.8]),
        (50, "rows", [0.7, 0.8], [0.5, 0.8]),
        (500, "rows", [0.7, 0.8], [0.5, 0.8]),
        (500, "factored", [0.9, 0.75], [0.8, 1.0]),
    ],
)
def test_ours_is_a_fraction_of_the_empty_route_of_the_same_round(
    rows: int, layout: str, rate: list[float], cpu: list[float]
) -> None:
    figures = figures_of()
    what = f"of the empty route's, B = {rows}, {layout}"
    assert figures[f"rate {what}"].values == pytest.approx(rate)
    assert figures[f"rate by CPU time {what}"].values == pytest.approx(cpu)


@pytest.mark.parametrize("rows", [1, 50, 500])
def test_ours_is_a_fraction_of_a_route_that_sends_as_much(rows: int) -> None:
    figures = figures_of()
    what = f"of the wire's, B = {rows}, rows"
    assert figures[f"rate {what}"].values == pytest.approx([0.875, 0.8])
    assert figures[f"rate by CPU time {what}"].values == pytest.approx([0.5, 0.8])


def test_ours_is_a_multiple_of_the_plain_service_of_the_same_round() -> None:
    figure = figures_of()["rate of the plain service's, B = 500"]
    assert figure.values == pytest.approx([10, 16])
    assert figure.verdict == "met"


def test_targets_are_for_rate_and_cpu_time() -> None:
    figures = figures_of()
    wire = {(rows, "rows"): bounds for rows, bounds in WIRE_TARGETS.items()}
    for whose, targets in (("empty route's", TARGETS), ("wire's", wire)):
        for (rows, layout), bounds in targets.items():
            for name in ("rate", "rate by CPU time"):
                judged = figures.pop(f"{name} of the {whose}, B = {rows}, {layout}")
                assert (judged.target, judged.stretch, judged.at_most) == (*bounds, False)
    assert [name for name, figure in figures.items() if figure.verdict] == [
        "rate of the plain service's, B = 500"
    ]


@pytest.fixture(scope="module")
def plain(served: tuple[World, Server]) -> Iterator[Server]:
    port = free_port()
    command = reference("plain", port, "--redis", served[0].url)
    with serving("plain", command, port, os.sched_getaffinity(0)) as server:
        yield server


@pytest.fixture
def keys(served: tuple[World, Server]) -> Iterator[redis.Redis]:
    """Load the plain service's keys, to be damaged."""
    load_plain_keys(*served)
    with redis.Redis.from_url(served[0].url) as client:
        yield client
        for key in client.scan_iter(f"{VERSION}:*"):
            client.delete(key)


def last_bits_of_items(client: redis.Redis) -> None:
    for key in client.scan_iter(f"{VERSION}:i:*"):
        value = client.get(key)
        assert isinstance(value, bytes)
        client.set(key, bytes([value[0] ^ 1]) + value[1:])


def pairs_that_nobody_exported(client: redis.Redis) -> None:
    zeros = np.zeros(TINY.dim, dtype="<f2").tobytes()
    for user in range(TINY.users):
        client.set(f"{VERSION}:uc:{user * USER_ID_STEP}:{TINY.pairs}", zeros)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("keys")
def test_both_services_answer_alike(served: tuple[World, Server], plain: Server) -> None:
    check_answers(*served, plain, ROWS)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize("damage", [last_bits_of_items, pairs_that_nobody_exported])
def test_an_answer_unlike_the_plain_services_ends_it(
    damage: Callable[[redis.Redis], None],
    served: tuple[World, Server],
    plain: Server,
    keys: redis.Redis,
) -> None:
    damage(keys)
    with pytest.raises(SystemExit, match="answer unlike"):
        check_answers(*served, plain, ROWS)


@pytest.fixture
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "ROWS", (ROWS,))
    monkeypatch.setattr(throughput, "MOST", ROWS)
    monkeypatch.setattr(throughput, "BODIES", 20)
    targets = {(ROWS, layout): (0.0, 0.0) for layout in ("rows", "factored")}
    monkeypatch.setattr(throughput, "TARGETS", targets)
    monkeypatch.setattr(throughput, "WIRE_TARGETS", {ROWS: (0.0, 0.0)})


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk", "_few_rows")
def test_a_small_version_is_measured() -> None:
    figures = measure(TINY, rounds=1, seconds=1)
    assert len(figures) == 2 * 5 + 2 + 1
    for figure in figures:
        assert len(figure.values) == 1
        assert figure.median > 0 or figure.name.startswith("page faults")


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("_few_rows")
def test_everybody_goes_first_once_and_nobodys_failure_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def fail_once(server: Server, bodies: Path, *_: object, **__: object) -> Load:
        asked.append((server.name, bodies.stem))
        return a_load(failed=int(len(asked) == 20))

    monkeypatch.setattr(throughput, "load", fail_once)
    with pytest.raises(SystemExit, match="gkc serve, B = 5: requests failed"):
        measure(TINY, rounds=5, seconds=1)
    assert len(set(asked)) == 5
    assert set(asked[::5]) == set(asked)
