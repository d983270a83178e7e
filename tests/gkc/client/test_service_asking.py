"""Retries, hedges, several addresses and the deadline, against servers that fail on purpose."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence

import pytest

from gkc.client import AttemptReport
from gkc.client.service_asking import Budget
from gkc.errors import DeadlineExceededError, ServiceError, StoreError, VersionNotReadyError
from tests.gkc.client.clients import Open
from tests.gkc.client.hostile import (
    CLOSE,
    RESET,
    Asked,
    Piece,
    hostile,
    http,
    listing,
    problem,
    right,
    rows,
)

ASK = {"u": 7, "i": [1, 2, 3], "v": "v1"}
NOT_READY = problem("503 Service Unavailable", "version-not-ready", Retry_After="0")
WIDE = 20.0
"""A stall of the machine fails nothing within so many seconds."""


def kinds(reports: Sequence[AttemptReport]) -> list[tuple[str, int | str]]:
    return [(report.kind, report.outcome) for report in reports]


def dead_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


# ---- the deadline


@pytest.mark.parametrize(
    "pieces",
    [
        [WIDE],
        [0.01, b"HTTP/1.1 ", *[b"2", 0.05] * 400],
        [http(rows(3))[:120], *[b"\0", 0.05] * 400],
        [b"HTTP/1.1 100 Continue\r\n\r\n", 0.02] * 1000,
    ],
    ids=["nothing", "a head in drops", "a body in drops", "ever on"],
)
def test_an_answer_that_does_not_come_is_given_up_in_time(
    client_of: Open, pieces: Sequence[Piece]
) -> None:
    with hostile(lambda _: pieces) as server, client_of(server.url, timeout=0.3) as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceededError, match=r"within 0\.3 s") as caught:
            client.knowledge(**ASK)
        assert time.monotonic() - began < WIDE / 2
    assert caught.value.source == server.url


def test_a_service_that_takes_no_connection_is_given_up_in_time(client_of: Open) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        where = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(where)
        with (
            client_of(f"http://127.0.0.1:{where[1]}", timeout=0.3) as client,
            pytest.raises(DeadlineExceededError),
        ):
            client.knowledge(**ASK)
        for each in waiting:
            each.close()


def test_after_a_deadline_the_connection_is_not_used_again(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        return [1.0, http(rows(1))] if asked.nth == 0 else right(asked)

    with hostile(reply) as server, client_of(server.url, timeout=0.3) as client:
        with pytest.raises(DeadlineExceededError):
            client.knowledge(**ASK)
        with client_of(server.url, timeout=WIDE) as patient:
            assert len(patient.knowledge(**ASK)) == 3
        assert server.connections == 2


# ---- retries


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_connection_that_ends_before_an_answer_is_asked_again(client_of: Open, end: str) -> None:
    reports: list[AttemptReport] = []

    def reply(asked: Asked) -> Sequence[Piece]:
        return [end] if asked.nth == 0 else right(asked)

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=WIDE, on_request=reports.append) as client,
    ):
        assert len(client.knowledge(**ASK)) == 3
    assert [report.kind for report in reports] == ["first", "retry", "first"]
    assert reports[0].outcome == "ConnectionResetError"
    assert [report.rows for report in reports] == [3, 3, 0]
    assert {report.address for report in reports} == {server.url}


def test_nothing_is_asked_again_once_an_answer_has_begun(client_of: Open) -> None:
    def reply(_: Asked) -> Sequence[Piece]:
        return [http(rows(3))[:200], CLOSE]

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=WIDE) as client,
        pytest.raises(ServiceError, match="of its answer"),
    ):
        client.knowledge(**ASK)
    assert len(server.asked) == 1


def test_retries_are_counted(client_of: Open) -> None:
    with (
        hostile(lambda _: [CLOSE]) as server,
        client_of(server.url, timeout=WIDE, retries=3) as client,
        pytest.raises(ServiceError, match="cannot be reached: closed the connection"),
    ):
        client.knowledge(**ASK)
    assert len(server.asked) == 4


def test_nobody_there_is_an_error(client_of: Open) -> None:
    url = dead_url()
    with (
        client_of(url, timeout=WIDE) as client,
        pytest.raises(ServiceError, match=f"service {url}: cannot be reached: Connection refused"),
    ):
        client.knowledge(**ASK)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid"])
def test_a_host_that_has_no_address_is_an_error(client_of: Open, host: str) -> None:
    with (
        client_of(f"http://{host}:8000", timeout=WIDE) as client,
        pytest.raises(ServiceError, match=f"no host '{host}'"),
    ):
        client.knowledge(**ASK)


def test_a_503_is_asked_again_when_it_says(client_of: Open) -> None:
    reports: list[AttemptReport] = []

    def reply(asked: Asked) -> Sequence[Piece]:
        return [NOT_READY] if asked.nth == 0 else right(asked)

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=WIDE, on_request=reports.append) as client,
    ):
        assert len(client.knowledge(**ASK)) == 3
    assert kinds(reports) == [("first", 503), ("retry", 200), ("first", 200)]


def test_a_503_beyond_the_deadline_is_the_error_that_it_tells_of(client_of: Open) -> None:
    answer = problem("503 Service Unavailable", "version-not-ready", Retry_After="60")
    with (
        hostile(lambda _: [answer]) as server,
        client_of(server.url, timeout=WIDE) as client,
        pytest.raises(VersionNotReadyError),
    ):
        client.knowledge(**ASK)
    assert len(server.asked) == 1


def test_a_503_without_a_time_is_not_asked_again(client_of: Open) -> None:
    answer = problem("503 Service Unavailable", "store-unavailable")
    with (
        hostile(lambda _: [answer]) as server,
        client_of(server.url, timeout=WIDE) as client,
        pytest.raises(StoreError),
    ):
        client.knowledge(**ASK)
    assert len(server.asked) == 1


def test_a_connection_closed_while_idle_is_noticed_before_it_is_used(client_of: Open) -> None:
    reports: list[AttemptReport] = []
    closed = threading.Event()

    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.nth == 2:
            closed.set()
            return [*right(asked), CLOSE]
        return right(asked)

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=WIDE, on_request=reports.append) as client,
    ):
        client.knowledge(**ASK)
        client.knowledge(**ASK)
        closed.wait()
        time.sleep(0.05)
        client.knowledge(**ASK)
    assert server.connections == 2
    assert {report.kind for report in reports} == {"first"}


def test_an_answer_that_says_close_ends_the_connection(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.method == "GET":
            return right(asked)
        return [http(rows(3), Connection="close"), CLOSE]

    with hostile(reply) as server, client_of(server.url, timeout=WIDE) as client:
        for _ in range(3):
            assert len(client.knowledge(**ASK)) == 3
    assert server.connections == 4 - 1


# ---- the budget


def test_a_budget_lets_a_tenth_of_the_requests_be_asked_again() -> None:
    budget = Budget()
    assert sum(budget.take() for _ in range(100)) == 10
    for _ in range(10):
        budget.earn()
    assert [budget.take(), budget.take()] == [True, False]
    for _ in range(1000):
        budget.earn()
    assert sum(budget.take() for _ in range(100)) == 10


def test_an_outage_is_not_made_worse(client_of: Open) -> None:
    with (
        hostile(lambda _: [CLOSE]) as server,
        client_of(server.url, timeout=WIDE, retries=1) as client,
    ):
        for _ in range(60):
            with pytest.raises(ServiceError):
                client.knowledge(**ASK)
        assert len(server.asked) <= 60 + 10 + 6


# ---- several addresses


def test_one_of_three_addresses_is_dead(client_of: Open) -> None:
    with (
        hostile(right) as one,
        hostile(right) as other,
        client_of([dead_url(), one.url, other.url], timeout=WIDE) as client,
    ):
        for _ in range(40):
            assert len(client.knowledge(**ASK)) == 3
        assert len(one.posts()) > 5
        assert len(other.posts()) > 5


def test_the_next_address_is_asked_at_once_when_one_is_not_ready(client_of: Open) -> None:
    answer = problem("503 Service Unavailable", "version-not-ready", Retry_After="60")
    with (
        hostile(lambda _: [answer]) as loading,
        hostile(right) as ready,
        client_of([loading.url, ready.url], timeout=WIDE) as client,
    ):
        for _ in range(8):
            assert len(client.knowledge(**ASK)) == 3
    assert loading.asked


def test_an_address_that_failed_is_left_out_for_a_while(client_of: Open) -> None:
    with (
        hostile(lambda _: [http(b"", content_type="text/html")]) as lying,
        hostile(right) as good,
        client_of([lying.url, good.url], timeout=WIDE) as client,
    ):
        lies = 0
        for _ in range(40):
            try:
                client.knowledge(**ASK)
            except ServiceError:
                lies += 1
        assert len(lying.posts()) == lies < 20
        assert len(good.posts()) == 40 - lies


# ---- hedges


def test_a_slow_address_is_hedged_by_another(client_of: Open) -> None:
    reports: list[AttemptReport] = []
    slow_ones: list[Asked] = []

    def slow(asked: Asked) -> Sequence[Piece]:
        slow_ones.append(asked)
        return [2.0, *right(asked)]

    with (
        hostile(slow) as slow_server,
        hostile(right) as fast,
        client_of(
            [slow_server.url, fast.url], timeout=WIDE, hedge_after=0.05, on_request=reports.append
        ) as client,
    ):
        while not slow_ones:
            assert len(client.knowledge(**ASK)) == 3
    assert ("first", "abandoned") in kinds(reports)
    assert ("hedge", 200) in kinds(reports)


def test_a_single_address_is_hedged_by_another_connection(client_of: Open) -> None:
    reports: list[AttemptReport] = []

    def reply(asked: Asked) -> Sequence[Piece]:
        return [2.0, *right(asked)] if asked.nth == 0 else right(asked)

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=WIDE, hedge_after=0.05, on_request=reports.append) as client,
    ):
        assert len(client.knowledge(**ASK)) == 3
        assert server.connections == 2
    assert kinds(reports)[:2] in (
        [("hedge", 200), ("first", "abandoned")],
        [("first", "abandoned"), ("hedge", 200)],
    )


def test_a_hedge_that_fails_leaves_the_first_to_answer(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.nth == 0:
            return [0.5, *right(asked)]
        return [CLOSE] if asked.nth == 1 else right(asked)

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=WIDE, hedge_after=0.05) as client,
    ):
        assert len(client.knowledge(**ASK)) == 3


def test_listing_is_tried_again_as_well(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        return [CLOSE] if asked.nth == 0 else [listing()]

    with hostile(reply) as server, client_of(server.url, timeout=WIDE) as client:
        assert client.versions()["max_versions"] == 5
