"""Ours is set against the empty route and the plain service, whose answers it must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import redis

from bench.bundles import USER_ID_STEP
from bench.load import Load
from bench.processes import Server
from bench.results import Figure
from bench.stage import Stage
from bench.throughput import (
    EMPTY_TARGETS,
    WIRE_TARGETS,
    answer_bytes,
    check_answers,
    figures,
    measure,
)
from bench.vectors import load_plain_keys
from bench.world import VERSION, World
from tests.bench.loads import TINY, a_load

ROWS = 5


def ran(rows: int, *runs: tuple[float, float]) -> list[Load]:
    """Make up runs, with the rate and the CPU time of each round for one row."""
    return [a_load(rate=rate / rows, cpu_ms=rows * cpu_ms) for rate, cpu_ms in runs]


def figures_by_name() -> dict[str, Figure]:
    runs = {("plain", 500, "rows"): ran(500, (70, 9), (100, 9))}
    for rows in (1, 50, 500):
        runs["empty", rows, "rows"] = ran(rows, (1000, 0.1), (2000, 0.2))
        runs["wire", rows, "rows"] = ran(rows, (800, 0.1), (2000, 0.2))
        runs["ours", rows, "rows"] = ran(rows, (700, 0.2), (1600, 0.25))
    runs["ours", 500, "factored"] = ran(500, (900, 0.125), (1500, 0.2))
    told = figures(runs)
    by_name = {figure.name: figure for figure in told}
    assert len(by_name) == len(told)
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
    told = figures_by_name()
    what = f"of the empty route's, B = {rows}, {layout}"
    assert told[f"rate {what}"].values == pytest.approx(rate)
    assert told[f"rate by CPU time {what}"].values == pytest.approx(cpu)


@pytest.mark.parametrize("rows", [1, 50, 500])
def test_ours_is_a_fraction_of_a_route_that_sends_as_much(rows: int) -> None:
    told = figures_by_name()
    what = f"of the wire's, B = {rows}, rows"
    assert told[f"rate {what}"].values == pytest.approx([0.875, 0.8])
    assert told[f"rate by CPU time {what}"].values == pytest.approx([0.5, 0.8])


def test_ours_is_a_multiple_of_the_plain_service_of_the_same_round() -> None:
    figure = figures_by_name()["rate of the plain service's, B = 500"]
    assert figure.values == pytest.approx([10, 16])
    assert figure.verdict == "met"


def test_targets_are_for_rate_and_cpu_time() -> None:
    told = figures_by_name()
    wire = {(rows, "rows"): bounds for rows, bounds in WIRE_TARGETS.items()}
    for whose, targets in (("empty route's", EMPTY_TARGETS), ("wire's", wire)):
        for (rows, layout), bounds in targets.items():
            for name in ("rate", "rate by CPU time"):
                judged = told.pop(f"{name} of the {whose}, B = {rows}, {layout}")
                assert (judged.target, judged.stretch, judged.at_most) == (*bounds, False)
    assert [name for name, figure in told.items() if figure.verdict] == [
        "rate of the plain service's, B = 500"
    ]


@pytest.fixture(scope="module")
def plain(stage: Stage, served: tuple[World, Server]) -> Server:
    return stage.reference("plain", "--redis", served[0].url)


@pytest.fixture
def keys(served: tuple[World, Server]) -> Iterator[redis.Redis]:
    """Load the plain service's keys, to be damaged."""
    load_plain_keys(served[0])
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


@pytest.mark.redis
@pytest.mark.slow
def test_answers_are_as_long_as_their_rows(served: tuple[World, Server]) -> None:
    one, more = (answer_bytes(*served, rows) for rows in (1, ROWS))
    assert more - one >= (ROWS - 1) * (2 * 4 * TINY.dim + 4)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk")
def test_a_small_version_is_measured() -> None:
    runs = measure(TINY, rounds=1, seconds=1, sizes=(1, ROWS))
    asked = {(name, rows, "rows") for name in ("empty", "wire", "ours") for rows in (1, ROWS)}
    assert runs.keys() == asked | {("ours", ROWS, "factored"), ("plain", ROWS, "rows")}
    assert all(len(found) == 1 and found[0].rate > 0 for found in runs.values())
