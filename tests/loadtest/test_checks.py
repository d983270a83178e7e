from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save

from loadtest.checks import fault
from loadtest.plan import JSON, SAFETENSORS, Question

WIDTHS = {"20211220": 8}
KNOWN, COLD_ITEM, COLD_USER = [1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 0, 0]


def question(accept: str, user: int = 7, items: tuple[int, ...] = (1, -2)) -> Question:
    return Question(accept, {"u": user, "i": list(items), "v": "20211220"})


def answer(
    accept: str,
    status: list[list[int]],
    *,
    rows: int = 2,
    width: int = 8,
    versions: dict[str, str] | None = None,
) -> bytes:
    versions = versions if versions is not None else {"20211220": "0000000001-aa"}
    if accept == JSON:
        body = {"versions": versions, "knowledge": [[0.5] * width] * rows, "status": status}
        return json.dumps(body).encode()
    tensors: dict[str, npt.NDArray[Any]] = {
        "knowledge": np.zeros((rows, width), dtype=np.float16),
        "status": np.array(status, dtype=np.uint8),
    }
    return save(tensors, {"versions": json.dumps(versions)})


def found(asked: Question, body: bytes, *, is_complete: bool = True) -> str:
    return fault(asked, body, WIDTHS, is_complete=is_complete)


@pytest.fixture(params=[JSON, SAFETENSORS])
def accept(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_right_answer_has_no_fault(accept: str) -> None:
    assert found(question(accept), answer(accept, [KNOWN, COLD_ITEM])) == ""
    assert found(question(accept, -7, (1, 2)), answer(accept, [COLD_USER] * 2)) == ""


def test_a_default_vector_is_no_find(accept: str) -> None:
    assert found(question(accept), answer(accept, [KNOWN, [1, 2, 2, 1]])) == ""
    assert found(question(accept, -7, (1, 2)), answer(accept, [[2, 1, 2, 2]] * 2)) == ""


@pytest.mark.parametrize(
    ("user", "status", "told"),
    [
        (7, [KNOWN, KNOWN], "status [1, 1, 1, 1] finds an id"),
        (-7, [[1, 1, 0, 0], COLD_USER], "status [1, 1, 0, 0] finds an id"),
        (-7, [[0, 1, 0, 1], COLD_USER], "status [0, 1, 0, 1] finds a pair"),
        (7, [COLD_ITEM, COLD_ITEM], "status [1, 0, 0, 1] misses an id"),
        (7, [COLD_USER, COLD_ITEM], "status [0, 1, 0, 0] misses an id"),
        (7, [KNOWN, [1, 3, 0, 1]], "status [1, 3, 0, 1] is none"),
    ],
)
def test_a_wrong_status_is_a_fault(
    accept: str, user: int, status: list[list[int]], told: str
) -> None:
    assert found(question(accept, user), answer(accept, status)).startswith(told)


def test_an_id_that_nobody_vouches_for_may_be_absent(accept: str) -> None:
    body = answer(accept, [[0, 0, 0, 0], [0, 0, 0, 0]])
    assert found(question(accept), body, is_complete=False) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rows": 1}, "rows of shape [1, 8], not [2, 8]"),
        ({"width": 6}, "rows of shape [2, 6], not [2, 8]"),
        ({"versions": {"20211219": "x"}}, "versions {'20211219': 'x'}, asked for 20211220"),
        ({"versions": {"20211220": ""}}, "versions {'20211220': ''}, asked for 20211220"),
        ({"versions": {}}, "versions {}, asked for 20211220"),
        ({"status": [KNOWN]}, "1 statuses of 2 rows, or not four in each"),
        ({"status": [KNOWN[:3]] * 2}, "2 statuses of 2 rows, or not four in each"),
    ],
)
def test_a_wrong_shape_or_version_is_a_fault(
    accept: str, change: dict[str, Any], told: str
) -> None:
    body = answer(accept, **{"status": [KNOWN, COLD_ITEM], **change})
    assert found(question(accept), body) == told


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_an_answer_cut_short_is_a_fault(accept: str, cut: int) -> None:
    body = answer(accept, [KNOWN, COLD_ITEM])
    assert found(question(accept), body[:cut]).startswith("cannot be read: ")


def test_rows_of_several_widths_are_a_fault() -> None:
    body = json.dumps({"versions": {}, "knowledge": [[1.0], [1.0, 2.0]], "status": []}).encode()
    assert "rows of widths [1, 2]" in found(question(JSON), body)


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"versions": 3}'])
def test_json_of_another_kind_is_a_fault(body: bytes) -> None:
    assert found(question(JSON), body).startswith("cannot be read: ")


def test_a_fault_does_not_repeat_the_answer() -> None:
    told = found(question(JSON), answer(SAFETENSORS, [KNOWN] * 500, rows=500))
    assert told.startswith("cannot be read: UnicodeDecodeError: ")
    assert len(told) < 200


def test_rows_of_another_type_are_a_fault() -> None:
    tensors: dict[str, npt.NDArray[Any]] = {
        "knowledge": np.zeros((2, 8), dtype=np.float32),
        "status": np.ones((2, 4), dtype=np.uint8),
    }
    body = save(tensors, {"versions": "{}"})
    assert "'dtype': 'F32'" in found(question(SAFETENSORS), body)
