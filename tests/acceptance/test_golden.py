"""Every answer is still equal, to the bit, to the one recorded in ``golden.json``.

A question's number leads to what was asked: ``tests.acceptance.golden.questions.questions()[k]``.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.golden.answers import (
    DTYPES,
    GOLDEN,
    GROUP,
    ask,
    ask_all,
    connect,
    digest_json,
    golden_service,
)
from tests.acceptance.golden.questions import fingerprint, questions, single_rows
from tests.commands import Place
from tests.in_process import done

SINGLE_ROWS = 34
"""Asked of each stored type by ``gkc get``, on both stores: 204 in all."""


def test_every_answer_is_the_recorded_one(place: Place, tmp_path: Path) -> None:
    recorded = json.loads(GOLDEN.read_text())
    assert fingerprint() == recorded["questions"], "the questions differ: answers cannot be told"
    with golden_service(place, tmp_path / "bundles") as url:
        groups = ask_all(url, questions())
        _check_get(url, place)
    assert _differences(groups, recorded["groups"]) == []


def _differences(groups: dict[str, list[str]], recorded: dict[str, list[str]]) -> list[str]:
    """Name the groups that differ and, where their digits tell, the questions by number."""
    differences = []
    for dtype in DTYPES:
        for k, (got, want) in enumerate(zip(groups[dtype], recorded[dtype], strict=True)):
            if got != want:
                digits = zip(got.split()[1], want.split()[1], strict=True)
                numbers = [k * GROUP + place for place, (g, w) in enumerate(digits) if g != w]
                differences.append(f"{dtype}, group {k}: questions {numbers or 'unknown'}")
    return differences


def _check_get(url: str, place: Place) -> None:
    """Compare ``gkc get`` with the service, one row each."""
    asked = [(question, dtype) for question in single_rows(SINGLE_ROWS) for dtype in DTYPES]
    told = []
    for question, dtype in asked:
        columns = {**question.columns, "v": question.columns["v"].format(dtype)}
        names = {"u": "user", "i": "item", "c": "category", "v": "version"}
        given = [f"--{names[k]}={v}" for k, v in columns.items() if v is not None]
        told.append(done("gkc", "get", "--json", *given, place=place))
    with connect(url) as connection:
        expected = [ask(connection, question, dtype) for question, dtype in asked]
    assert [digest_json(body, "f32") for body in told] == expected
