"""Pieces that together ask and answer the same, in one generation and within one deadline."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc import Client
from gkc.client.pieces import pieces_of
from gkc.client.question import question_of
from gkc.errors import (
    BatchTooLargeError,
    DeadlineExceededError,
    GenerationChangedError,
    InvalidFieldsError,
)
from gkc.knowledge import PARTS
from tests.commands import Place, service
from tests.gkc.client.clients import ALL_ITEMS, WIDE, Open, expected
from tests.gkc.client.hostile import Asked, Piece, hostile, http, listing, problem, right, rows
from tests.gkc.world import CATEGORIES, Worlds, make_world


@given(st.data(), st.integers(1, 5))
def test_pieces_together_ask_the_same(data: st.DataObject, max_rows: int) -> None:
    n = data.draw(st.integers(0, 12))
    ids = st.integers(-3, 3)

    def column(values: Any) -> Any:
        return data.draw(st.one_of(values, st.lists(values, min_size=n, max_size=n)))

    question = question_of(
        parts=None,
        dtype="f32",
        u=column(ids),
        i=data.draw(st.lists(ids, min_size=n, max_size=n)),
        c=data.draw(
            st.one_of(st.none(), st.lists(st.one_of(st.none(), ids), min_size=n, max_size=n))
        ),
        v=column(st.sampled_from(["a", "b", "c"])),
    )
    pieces = pieces_of(question, max_rows)
    assert [row for piece in pieces for row in _rows(piece)] == _rows(question)
    for piece in pieces:
        named = {row[3] for row in _rows(piece)}
        assert piece.columns.n <= max_rows
        if piece.columns.n:
            assert set(piece.columns.versions) == named


def _rows(question: Any) -> list[tuple[Any, ...]]:
    columns, n = question.columns, question.columns.n
    if not n:
        return []
    categories: list[int | None] = [None] * n
    if columns.categories is not None:
        pairs = zip(
            np.broadcast_to(columns.categories, n),
            np.broadcast_to(columns.has_category, n),
            strict=True,
        )
        categories = [int(c) if is_given else None for c, is_given in pairs]
    return [
        (int(u), int(i), c, columns.versions[v])
        for u, i, c, v in zip(
            np.broadcast_to(columns.users, n),
            np.broadcast_to(columns.items, n),
            categories,
            np.broadcast_to(columns.version_index, n),
            strict=True,
        )
    ]


def test_more_rows_than_a_service_answers_are_asked_in_pieces(
    client_of: Open, served: str, worlds: Worlds
) -> None:
    items = (ALL_ITEMS * 20)[:230]
    reports: list[Any] = []
    with client_of(served, timeout=WIDE, on_request=reports.append) as client:
        for _ in range(2):
            answer = client.knowledge(u=7, i=items, v="half")
            bits, status = expected(worlds["half"], [(7, i, None) for i in items], PARTS, "f32")
            assert answer.rows.tobytes() == bits
            assert answer.status.tolist() == status
    asked = [report.rows for report in reports if report.rows]
    assert asked == [230, *[50] * 4, 30, *[50] * 4, 30]  # the limit is learned once


def test_pieces_of_several_versions_and_categories(
    client_of: Open, served: str, worlds: Worlds
) -> None:
    n = 23
    versions = [("half", "full")[k // 6 % 2] for k in range(n)]
    categories = [None if k % 3 else CATEGORIES[k % 5] for k in range(n)]
    items = [ALL_ITEMS[k % len(ALL_ITEMS)] for k in range(n)]
    with client_of(served, timeout=WIDE, max_rows=4) as client:
        answer = client.knowledge(u=-3, i=items, c=categories, v=versions)
    for k, row in enumerate(answer.rows):
        bits, _ = expected(worlds[versions[k]], [(-3, items[k], categories[k])], PARTS, "f32")
        assert row.tobytes() == bits
    assert answer.versions == {v: worlds[v].generation for v in ("half", "full")}


def test_pieces_of_unequal_widths_are_refused(client_of: Open, served: str) -> None:
    with (
        client_of(served, timeout=WIDE, max_rows=2) as client,
        pytest.raises(InvalidFieldsError, match=r"unequal widths \(half, wide\)"),
    ):
        client.knowledge(u=-3, i=[11] * 4, v=["half"] * 2 + ["wide"] * 2)


def test_pieces_of_a_former_generation_are_asked_again(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.method == "GET":
            return [listing("g2", previous="g1")]
        generation = "g1" if asked.nth < 2 else "g2"
        knowledge = np.full((asked.rows, 7), asked.nth, dtype=np.float32)
        return [http(rows(asked.rows, versions={"v1": generation}, knowledge=knowledge))]

    with hostile(reply) as server, client_of(server.url, timeout=WIDE, max_rows=2) as client:
        answer = client.knowledge(u=7, i=[1, 2, 3, 4, 5], v="v1")
    assert answer.versions == {"v1": "g2"}
    assert answer.rows[:, 0].tolist() == [4.0, 4.0, 2.0, 2.0, 3.0]


def test_generations_that_change_all_the_time_are_an_error(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.method == "GET":
            return [listing(f"g{asked.nth - 1}")]
        return [http(rows(asked.rows, versions={"v1": f"g{asked.nth}"}))]

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=WIDE, max_rows=2) as client,
        pytest.raises(GenerationChangedError, match="v1"),
    ):
        client.knowledge(u=7, i=[1, 2, 3, 4, 5], v="v1")


def test_pieces_share_one_deadline(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        return [0.2, *right(asked)]

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=0.7, max_rows=1) as client,
        pytest.raises(DeadlineExceededError, match=r"within 0\.7 s"),
    ):
        client.knowledge(u=7, i=list(range(200)), v="v1")
    assert len(server.posts()) < 20


def test_first_questions_at_once_all_learn_the_limit() -> None:
    n, together = 4, threading.Barrier(4)

    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.method == "POST" and asked.rows > 2:
            together.wait()  # each is refused before one has learned anything
            told = {"type": "urn:gkc:problem:too-many-rows", "title": "", "detail": "because"}
            body = json.dumps(told | {"status": 413, "max_rows": 2}).encode()
            return [http(body, status="413 Large", content_type="application/problem+json")]
        return right(asked)

    with (
        hostile(reply) as server,
        Client(server.url, timeout=WIDE) as client,
        ThreadPoolExecutor(n) as threads,
    ):
        asking = [threads.submit(client.knowledge, u=7, i=[1, 2, 3], v="v1") for _ in range(n)]
        assert [len(each.result()) for each in asking] == [3] * n


def test_a_limit_that_says_nothing_new_is_an_error(client_of: Open) -> None:
    answer = problem("413 Too Large", "too-many-rows")
    with (
        hostile(lambda _: [answer]) as server,
        client_of(server.url, timeout=WIDE) as client,
        pytest.raises(BatchTooLargeError, match="because"),
    ):
        client.knowledge(u=7, i=[1, 2], v="v1")


def test_a_publication_is_followed_without_an_error(client_of: Open, url: str) -> None:
    first = make_world("v1", 1).publish(url)
    ask: dict[str, Any] = {"u": 7, "i": ALL_ITEMS * 3, "v": "v1"}
    with (
        service(Place(url, "default"), "--workers", "2") as served,
        client_of(served, timeout=WIDE, max_rows=10) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        publishing = pool.submit(make_world("v1", 2).publish, url)
        met: list[str] = []
        while not publishing.done() or met[-1] != publishing.result().generation:
            answer = client.knowledge(**ask)
            met.append(answer.versions["v1"])
            world = first if met[-1] == first.generation else publishing.result()
            asked = [(7, item, None) for item in ask["i"]]
            assert answer.rows.tobytes() == expected(world, asked, PARTS, "f32")[0]
    assert set(met) <= {first.generation, publishing.result().generation}
