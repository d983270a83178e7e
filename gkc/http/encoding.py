"""Answer → wire format: the last step of a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
import orjson

from gkc import safetensors
from gkc.answering.turns import Turns
from gkc.arrays import Array
from gkc.center.question import Answer, AnswerType, FactoredAnswer, RowsAnswer
from gkc.errors import InvalidFieldsError
from gkc.http.negotiation import SAFETENSORS
from gkc.knowledge import Vectors

_NUMBERS_AT_ONCE: Final = 50_000
"""So many take orjson about a millisecond."""
_JSON_BYTES_OF_NUMBER: Final = 11
"""With its comma, as most are."""
_TWICE_ROUNDED: Final = np.array(0x15AE43FD, dtype=np.uint32).view(np.float32)
"""The one float32 whose shortest decimal, read as a double and cast, is another float32.

Shown for every float32 by ``git show 8b4fcbb:bench/json_bits.py``.
"""


def bytes_of_number(dtype: AnswerType, media_type: str) -> int:
    """Return what each number of an answer takes while it is answered, in all."""
    size = 2 if dtype == "f16" else 4
    return size if media_type == SAFETENSORS else size + _JSON_BYTES_OF_NUMBER


async def encode(answer: Answer, media_type: str, turns: Turns) -> list[bytes | memoryview]:
    """Encode an answer as one of `gkc.http.negotiation.MEDIA_TYPES`, in consecutive pieces.

    Long JSON is written a millisecond at a time, with a pause before each.

    Raises
    ------
    InvalidFieldsError
        If a factored answer is to be JSON.
    """
    if media_type == SAFETENSORS:
        return _encode_safetensors(answer)
    if isinstance(answer, FactoredAnswer):
        raise InvalidFieldsError(f"factored needs Accept: {SAFETENSORS}", "/layout")
    pieces: list[bytes | memoryview] = []
    for piece in _json_pieces(answer):
        if pieces:
            await turns.pause()
        pieces.append(piece)
    return pieces


def encode_json(answer: RowsAnswer) -> bytes:
    """Encode an answer as JSON in one go."""
    return b"".join(_json_pieces(answer))


def _json_pieces(answer: RowsAnswer) -> Iterator[bytes]:
    """Write JSON whose numbers, read as doubles and cast, give the very bits; in pieces.

    Each piece has `_NUMBERS_AT_ONCE` numbers or fewer, but for a single row that has more.
    """
    knowledge, status = answer.knowledge, answer.status
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, knowledge.shape[1]))
    if len(knowledge) <= at_once:
        yield _json(_head(answer) | {"knowledge": _exact(knowledge), "status": status})
        return
    yield _json(_head(answer))[:-1] + b',"knowledge":['
    for start in range(0, len(knowledge), at_once):
        rows = _json(_exact(knowledge[start : start + at_once]))[1:-1]
        yield b"," + rows if start else rows
    yield b'],"status":' + _json(status) + b"}"


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _encode_safetensors(answer: Answer) -> list[bytes | memoryview]:
    """Encode an answer as safetensors, in pieces: nothing is copied."""
    tensors: Mapping[str, Array] = (
        answer.tensors if isinstance(answer, FactoredAnswer) else {"knowledge": answer.knowledge}
    )
    metadata = _metadata(
        tuple(answer.versions.items()), tuple(answer.spans.items()), tuple(answer.tasks.items())
    )
    if answer.age is not None:
        metadata = {**metadata, "age": str(answer.age)}
    return safetensors.dump({**tensors, "status": answer.status}, metadata)


@lru_cache(maxsize=1024)
def _metadata(
    versions: tuple[tuple[str, str], ...],
    spans: tuple[tuple[str, tuple[int, int]], ...],
    tasks: tuple[tuple[str, str], ...],
) -> Mapping[str, str]:
    """Return what `_head` holds as strings of JSON, and tasks; few differ among many answers."""
    head: dict[str, Any] = {"versions": dict(versions), "parts": dict(spans)}
    if tasks:
        head["tasks"] = {version: orjson.Fragment(text) for version, text in tasks}
    return {name: orjson.dumps(value).decode() for name, value in head.items()}


def _head(answer: Answer) -> dict[str, Any]:
    head = {"versions": dict(answer.versions), "parts": dict(answer.spans)}
    return head if answer.age is None else {**head, "age": answer.age}


def _exact(knowledge: Vectors) -> Any:  # noqa: ANN401
    """Return the array in a type whose shortest decimals survive a reader's two roundings."""
    if knowledge.dtype == np.float16:
        return knowledge.astype(np.float32)
    is_rounded_twice = (knowledge == _TWICE_ROUNDED) | (knowledge == -_TWICE_ROUNDED)
    return knowledge.astype(np.float64) if is_rounded_twice.any() else knowledge
