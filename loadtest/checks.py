"""Whether an answer is what was asked for; standard library only, Locust's environment runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import and_, or_
from typing import Any, NamedTuple

from loadtest.plan import SAFETENSORS, Question

USER_CATEGORY = 3
"""Column of the status that tells of a pair; user, item and their product come before it."""
ABSENT, FOUND, DEFAULT = range(3)
_LENGTH_BYTES = 8


class Content(NamedTuple):
    """What an answer holds, its numbers aside."""

    versions: Mapping[str, str]
    shape: Sequence[int]
    """Of the rows."""
    status: Sequence[Sequence[int]]


def fault(
    question: Question, answer: bytes, widths: Mapping[str, int], *, is_complete: bool
) -> str:
    """Say what is wrong with an answer.

    Negative ids were never exported: such a user, item or pair must not be found.

    Parameters
    ----------
    question : Question
    answer : bytes
        The body of a 200.
    widths : mapping of str to int
        Numbers in a row, by version.
    is_complete : bool
        Whether every other user and item was exported, and so must be found.

    Returns
    -------
    str
        Empty if nothing is.
    """
    try:
        content = (
            _read_safetensors(answer) if question.accept == SAFETENSORS else _read_json(answer)
        )
    except (ValueError, KeyError, TypeError, IndexError) as exc:
        return f"cannot be read: {type(exc).__name__}: {exc}"
    version, rows = question.body["v"], question.candidates
    if set(content.versions) != {version} or not content.versions[version]:
        return f"versions {dict(content.versions)}, asked for {version}"
    if list(content.shape) != [rows, widths[version]]:
        return f"rows of shape {list(content.shape)}, not {[rows, widths[version]]}"
    if len(content.status) != rows or any(len(row) != 4 for row in content.status):
        return f"{len(content.status)} statuses of {rows} rows, or not four in each"
    return _status_fault(question, content.status, is_complete)


def _status_fault(question: Question, status: Sequence[Sequence[int]], is_complete: bool) -> str:
    is_cold_user = question.body["u"] < 0
    for item, codes in zip(question.body["i"], status, strict=True):
        cold = is_cold_user, item < 0, is_cold_user or item < 0
        is_found = [code == FOUND for code in codes[:USER_CATEGORY]]
        if any(code not in (ABSENT, FOUND, DEFAULT) for code in codes):
            return f"status {list(codes)} is none"
        if any(map(and_, cold, is_found)):
            return f"status {list(codes)} finds an id that was not exported"
        if is_cold_user and codes[USER_CATEGORY] == FOUND:
            return f"status {list(codes)} finds a pair of a user that was not exported"
        if is_complete and not all(map(or_, cold, is_found)):
            return f"status {list(codes)} misses an id that was exported"
    return ""


def _read_safetensors(answer: bytes) -> Content:
    start = _LENGTH_BYTES + int.from_bytes(answer[:_LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(answer[_LENGTH_BYTES:start])
    rows, width = header["knowledge"]["shape"]
    low, high = header["knowledge"]["data_offsets"]
    if header["knowledge"]["dtype"] != "F16" or high - low != 2 * rows * width:
        raise ValueError(f"knowledge is {header['knowledge']}")
    count, parts = header["status"]["shape"]
    low, high = header["status"]["data_offsets"]
    codes = answer[start + low : start + high]
    if len(codes) != count * parts:
        raise ValueError(f"{len(codes)} bytes of status, {count} times {parts}")
    status = [codes[at : at + parts] for at in range(0, len(codes), parts)]
    return Content(json.loads(header["__metadata__"]["versions"]), (rows, width), status)


def _read_json(answer: bytes) -> Content:
    told: dict[str, Any] = json.loads(answer)
    widths = {len(row) for row in told["knowledge"]}
    if len(widths) != 1:
        raise ValueError(f"rows of widths {sorted(widths)}")
    return Content(told["versions"], (len(told["knowledge"]), *widths), told["status"])
