"""Numbers in JSON give the very bits that were answered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec.structs import replace

from gkc.answering.turns import Turns
from gkc.arrays import F16, F32
from gkc.center.question import FactoredAnswer, RowsAnswer
from gkc.errors import InvalidFieldsError
from gkc.http.encoding import encode, encode_json
from gkc.http.negotiation import JSON, SAFETENSORS

TWICE_ROUNDED = np.array([0x15AE43FD, 0x95AE43FD], dtype=np.uint32).view(np.float32)


def answer(knowledge: F32 | F16) -> RowsAnswer:
    status = np.ones((len(knowledge), 4), dtype=np.uint8)
    return RowsAnswer({"v": "g"}, {"user": (0, knowledge.shape[1])}, status, {}, knowledge)


def read(body: bytes, kind: type[Any]) -> bytes:
    doubles = np.array(json.loads(body)["knowledge"], dtype=np.float64)
    return doubles.astype(kind).tobytes()


@given(
    values=hnp.arrays(
        np.uint32, (3, 4), elements=st.integers(0, 2**32 - 1).filter(lambda b: b >> 23 & 255 < 255)
    )
)
@example(values=np.array([[0x80000000, 1, 0x80000001, 0x7F7FFFFF]], dtype=np.uint32))
@example(values=np.array([[0x15AE43FD, 0x95AE43FD, 0, 0x15AE43FE]], dtype=np.uint32))
def test_every_float32_survives(values: Any) -> None:
    rows = values.view(np.float32)
    assert read(encode_json(answer(rows)), np.float32) == rows.tobytes()


def test_every_finite_float16_survives() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    rows = halves[np.isfinite(halves)].reshape(-1, 8)
    assert read(encode_json(answer(rows)), np.float16) == rows.tobytes()


def test_the_twice_rounded_number_needs_its_care() -> None:
    assert [float(text) for text in ("7.038531e-26", "-7.038531e-26")] == [
        float(str(x)) for x in TWICE_ROUNDED
    ]
    assert np.float32(7.038531e-26) != TWICE_ROUNDED[0], "its shortest decimal is another float32"


async def metadata_of(told: RowsAnswer) -> Any:
    body = b"".join(await encode(told, SAFETENSORS, Turns()))
    return json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])["__metadata__"]


async def test_an_old_answer_says_its_age() -> None:
    old = replace(answer(np.zeros((1, 2), dtype=np.float32)), age=2.5)
    assert json.loads(encode_json(old))["age"] == 2.5
    assert (await metadata_of(old))["age"] == "2.5"


async def test_safetensors_tell_the_tasks_by_version_where_there_are_some() -> None:
    plain = answer(np.zeros((1, 2), dtype=np.float32))
    tasks = [{"name": "click", "dim": 2}]
    with_tasks = replace(plain, tasks={"v": json.dumps(tasks)})
    assert "tasks" not in await metadata_of(plain)
    assert json.loads((await metadata_of(with_tasks))["tasks"]) == {"v": tasks}


@pytest.mark.parametrize("rows", [12_500, 12_501, 40_000])
async def test_long_json_is_written_in_turns_and_whole(rows: int) -> None:
    knowledge = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    knowledge[-1, -1] = TWICE_ROUNDED[0]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    pieces = await encode(answer(knowledge), JSON, Turns())
    counting.cancel()
    assert turns >= len(pieces) - 1
    assert (len(pieces) == 1) == (rows == 12_500)
    body = b"".join(pieces)
    assert read(body, np.float32) == knowledge.tobytes()
    told = json.loads(body)
    assert list(told) == ["versions", "parts", "knowledge", "status"]
    assert told["status"] == [[1, 1, 1, 1]] * rows
    assert encode_json(answer(knowledge)) == body


async def test_factored_answers_are_no_json() -> None:
    factored = FactoredAnswer({}, {}, np.zeros((0, 4), dtype=np.uint8), {}, {})
    with pytest.raises(InvalidFieldsError, match=SAFETENSORS):
        await encode(factored, JSON, Turns())
