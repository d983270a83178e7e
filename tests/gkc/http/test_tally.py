"""What is tallied reaches the metrics: all of it, once, a moment later."""

from __future__ import annotations

import asyncio

import numpy as np
import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.http.metrics import REQUEST_SECONDS, Metrics
from gkc.http.tally import FLUSH_SECONDS, AnsweredRows, Histogram, Tally, by_name

AMOUNTS = st.lists(st.sampled_from((*REQUEST_SECONDS, 0.0, 0.0007, 3.0)) | st.floats(0.0, 5.0))


@given(AMOUNTS)
def test_many_values_at_once_are_as_one_by_one(amounts: list[float]) -> None:
    described = ("seconds", "Seconds.")
    singly = prometheus_client.Histogram(*described, buckets=REQUEST_SECONDS, registry=None)
    at_once = Histogram(*described, buckets=REQUEST_SECONDS, registry=None)
    for amount in amounts:
        singly.observe(amount)
    at_once.observe_all(amounts)
    (expected,), (found,) = singly.collect(), at_once.collect()
    for one, other in zip(expected.samples, found.samples, strict=True):
        assert (one.name, one.labels) == (other.name, other.labels)
        assert one.value == pytest.approx(other.value)


async def test_it_is_added_soon_and_once() -> None:
    added: list[list[tuple[str, int, float]]] = []

    def add() -> None:
        added.append(tally.requests)
        tally.clear()

    tally = Tally(add)
    for code in (200, 200, 404):
        tally.begin()
        tally.end("/known", code, 0.5)
    assert not added
    await asyncio.sleep(50 * FLUSH_SECONDS)
    assert added == [[("/known", 200, 0.5), ("/known", 200, 0.5), ("/known", 404, 0.5)]]
    tally.end("/known", 200, 0.25)
    await asyncio.sleep(50 * FLUSH_SECONDS)
    assert added[1:] == [[("/known", 200, 0.25)]]


async def test_a_request_under_way_is_seen_before_it_ends() -> None:
    metrics = Metrics()
    metrics.tally.begin()
    await asyncio.sleep(50 * FLUSH_SECONDS)
    assert "gkc_inflight_requests 1.0" in metrics.render(None, True).decode()
    metrics.tally.end("/known", 200, 0.5)
    await asyncio.sleep(50 * FLUSH_SECONDS)
    text = metrics.render(None, True).decode()
    assert "gkc_inflight_requests 0.0" in text
    assert 'gkc_requests_total{code="200",route="/known"} 1.0' in text


def test_answers_of_several_versions_and_parts_are_told_apart() -> None:
    metrics = Metrics()
    counts = np.array([0, 2, 0, 0, 0, 2, 0, 0, 2, 2, 0, 0], dtype=np.int64)
    for parts in (("user",), ("user", "item")):
        answer = AnsweredRows("/knowledge", 2, parts, {"a": counts, "b": counts})
        metrics.tally.answers.append(answer)
    metrics.add_tally()
    text = metrics.render(None, True).decode()
    for version in "ab":
        assert f'gkc_parts_total{{part="user",status="found",version="{version}"}} 4.0' in text
        assert f'gkc_parts_total{{part="item",status="default",version="{version}"}} 2.0' in text
    assert "user_category" not in text
    assert 'gkc_request_rows_sum{route="/knowledge"} 4.0' in text


def test_values_of_one_name_come_together() -> None:
    assert by_name([("a", 1.0), ("b", 2.0), ("a", 3.0)]) == {"a": [1.0, 3.0], "b": [2.0]}
