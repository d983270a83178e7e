"""Rows from distinct vectors: chosen where smaller, equal to the bit, and checked as all else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gkc import safetensors
from gkc.client.question import question_of
from gkc.client.service_factored import _float32, is_worthwhile
from gkc.errors import InvalidFieldsError, ServiceError
from gkc.knowledge import PARTS
from tests.commands import Place, service
from tests.gkc.client.clients import Open
from tests.gkc.client.hostile import GENERATION, Asked, Piece, hostile, http, listing
from tests.gkc.client.hostile import rows as rows_body
from tests.gkc.world import CATEGORIES, ITEMS, STRANGERS, USERS, Worlds

WIDE = 20.0
N = 4000
RNG = np.random.default_rng(5)
ALL_ITEMS = RNG.choice(np.array([*ITEMS, *STRANGERS]), N)
SOME_USERS = RNG.choice(np.array([*USERS[:4], STRANGERS[0]]), N)
SOME_CATEGORIES = [None if k % 3 else CATEGORIES[k % 5] for k in range(N)]


def question(**changes: Any) -> Any:
    told: dict[str, Any] = {"u": 7, "i": np.arange(500), "c": None, "v": "v1"}
    told |= {"parts": None, "dtype": "f32"}
    return question_of(**(told | changes))


def entry(dim: int, category_dim: int, dtype: str) -> dict[str, Any]:
    return {"dim": dim, "category_dim": category_dim, "dtype": dtype}


HALVES, FLOATS = entry(64, 64, "f16"), entry(64, 64, "f32")


@pytest.mark.parametrize(
    ("changes", "version", "is_chosen"),
    [
        ({}, HALVES, True),
        ({}, FLOATS, False),  # the pairs might be as many as the rows
        ({"parts": ["user", "item", "user_item"]}, FLOATS, True),
        ({"parts": ["user_item"]}, HALVES, False),
        ({"i": ALL_ITEMS}, entry(4, 3, "f16"), True),
        ({"parts": ["user_item"]}, FLOATS, False),
        ({"parts": ["item"]}, HALVES, False),
        ({"dtype": "f16"}, HALVES, False),
        ({"i": np.arange(100)}, HALVES, False),
        ({"u": np.arange(500)}, HALVES, True),
        ({"u": np.arange(500), "parts": ["user", "item"]}, HALVES, False),
        ({"i": []}, HALVES, False),
    ],
)
def test_it_is_chosen_where_it_takes_half_the_bytes(
    changes: dict[str, Any], version: dict[str, Any], is_chosen: bool
) -> None:
    assert is_worthwhile(question(**changes), version) == is_chosen


@pytest.mark.parametrize("version", ["half", "half-defaults", "wide", "full", "int8-defaults"])
@pytest.mark.parametrize("parts", [PARTS, ("user", "item"), ("user_item",), PARTS[1:]])
@pytest.mark.parametrize("users", [7, STRANGERS[0], SOME_USERS], ids=["one", "none", "some"])
@pytest.mark.parametrize("categories", [None, SOME_CATEGORIES], ids=["own", "given"])
def test_the_bits_are_those_of_rows(
    whole: str, client_of: Open, version: str, parts: Any, users: Any, categories: Any
) -> None:
    ask = {"u": users, "i": ALL_ITEMS, "c": categories, "v": version, "parts": parts}
    with client_of(whole, timeout=WIDE) as client:
        before = client.knowledge(**ask)  # nothing is known of widths yet
        again = client.knowledge(**ask)
    assert again.rows.tobytes() == before.rows.tobytes()
    assert again.status.tolist() == before.status.tolist()
    assert (again.parts, again.versions) == (before.parts, before.versions)


@pytest.fixture(scope="module")
def whole(worlds: Worlds) -> Any:
    """Yield a service that answers all rows at once."""
    with service(Place(worlds.url, "default")) as url:
        yield url


def test_products_that_overflow_are_refused(whole: str, client_of: Open) -> None:
    ask = {"u": 7, "i": ALL_ITEMS, "v": "largest"}
    with client_of(whole, timeout=WIDE) as client:
        for _ in range(2):
            with pytest.raises(InvalidFieldsError, match="f32 may overflow"):
                client.knowledge(**ask)


def test_halves_become_floats_as_numpy_makes_them() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)].reshape(-1, 2)
    assert _float32(finite).tobytes() == finite.astype(np.float32).tobytes()


def factored(n: int, **changes: Any) -> bytes:
    told: dict[str, Any] = {
        "user": np.full((1, 20), 2.0, dtype=np.float16),
        "user_index": np.zeros(n, dtype=np.int32),
        "item": np.ones((n, 20), dtype=np.float16),
        "user_category": np.ones((2, 10), dtype=np.float16),
        "user_category_index": np.ones(n, dtype=np.int32),
        "status": np.ones((n, 4), dtype=np.uint8),
    }
    told |= changes
    told = {name: value for name, value in told.items() if value is not None}
    spans = {"user": [0, 20], "item": [20, 40], "user_item": [40, 60], "user_category": [60, 70]}
    metadata = {"versions": json.dumps({"v1": GENERATION}), "parts": json.dumps(spans)}
    return b"".join(safetensors.dump(told, metadata))


def wide_rows(n: int) -> bytes:
    spans = {"user": [0, 20], "item": [20, 40], "user_item": [40, 60], "user_category": [60, 70]}
    return rows_body(n, knowledge=np.ones((n, 70), dtype=np.float32), parts=spans)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"user": None}, "holds the tensors"),
        ({"item": np.ones((499, 20), np.float16)}, "its item are 499, not 1000"),
        ({"item": np.ones((1000, 19), np.float16)}, "not 20 wide"),
        ({"item": np.ones((1000, 20))}, "its vectors are float16, float64"),
        ({"user_index": np.ones(1000, np.int32)}, "points beyond its 1 vectors"),
        ({"user_index": np.full(1000, -1, np.int32)}, "points beyond its 1 vectors"),
        ({"user_index": np.zeros(1000, np.int64)}, "its user_index is int64"),
        ({"user_category_index": np.full(1000, 2, np.int32)}, "points beyond its 2 vectors"),
        ({"user_category": np.ones((0, 10), np.float16)}, "points beyond its 0 vectors"),
        ({"status": np.full((1000, 4), 9, np.uint8)}, "status holds 9"),
    ],
)
def test_vectors_that_do_not_fit_are_an_error(
    client_of: Open, changes: dict[str, Any], words: str
) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.method == "GET":
            return [listing(dim=20, category_dim=10, dtype="f16")]
        _, metadata = safetensors.load(asked.body)
        is_factored = metadata.get("layout") == "factored"
        return [http(factored(1000, **changes) if is_factored else wide_rows(1000))]

    ask = {"u": 7, "i": np.arange(1000), "v": "v1"}
    with hostile(reply) as server, client_of(server.url, timeout=WIDE) as client:
        client.knowledge(**ask)
        if not words:
            assert (
                client.knowledge(**ask).rows[3].tolist()
                == [2] * 20 + [1] * 20 + [2] * 20 + [1] * 10
            )
            return
        with pytest.raises(ServiceError, match=words):
            client.knowledge(**ask)
