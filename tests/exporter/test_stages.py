from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from exporter.stages import Ahead


def test_items_come_in_order() -> None:
    with Ahead(iter(range(100)), 3) as ahead:
        assert list(ahead) == list(range(100))


def test_no_more_than_depth_items_run_ahead() -> None:
    made: list[int] = []
    third = threading.Event()

    def source() -> Iterator[int]:
        for k in range(100):
            made.append(k)
            if k == 3:
                third.set()
            yield k

    with Ahead(source(), 2) as ahead:
        assert next(iter(ahead)) == 0
        assert third.wait(5)
        # One taken, two waiting, one in the thread's hand.
        assert len(made) == 4


def test_an_error_reaches_the_consumer_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("two is missing")

    seen: list[int] = []
    with Ahead(source(), 2) as ahead, pytest.raises(ValueError, match="two is missing"):
        seen.extend(ahead)
    assert seen == [1]


def test_leaving_early_stops_every_stage() -> None:
    def source() -> Iterator[int]:
        k = 0
        while True:
            yield k
            k += 1

    before = threading.active_count()
    with Ahead(source(), 2) as first, Ahead((2 * k for k in first), 2) as second:
        assert [k for k, _ in zip(second, range(3), strict=False)] == [0, 2, 4]
    assert threading.active_count() == before


def test_a_consumer_that_fails_stops_the_thread() -> None:
    def consume() -> None:
        with Ahead(iter(range(1000)), 2) as ahead:
            raise KeyError(next(iter(ahead)))

    before = threading.active_count()
    with pytest.raises(KeyError):
        consume()
    assert threading.active_count() == before
