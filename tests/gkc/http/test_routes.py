"""The endpoints besides the hot one, and what the hot one takes from its headers."""

from __future__ import annotations

import pytest

from tests.gkc.http.running import JSON, SAFETENSORS, Session
from tests.gkc.world import Worlds

GOOD = {"u": 7, "i": [11, 12], "v": "half"}


@pytest.mark.parametrize(
    ("accept", "answered"),
    [("*/*", JSON), ("application/json", JSON), (SAFETENSORS, SAFETENSORS), ("", JSON)],
)
def test_the_answer_is_of_the_type_asked_for(asked: Session, accept: str, answered: str) -> None:
    response = asked.post(GOOD, headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == answered
    assert int(response.headers["content-length"]) == len(response.content)


def test_status_has_four_columns_whatever_is_asked(asked: Session) -> None:
    for parts in (["user"], ["user_item", "user_category"]):
        assert [len(s) for s in asked.post(GOOD | {"parts": parts}).json()["status"]] == [4, 4]


def test_versions_are_listed(asked: Session, worlds: Worlds) -> None:
    body = asked.get("/versions").json()
    assert body["max_versions"] == len(body["versions"])
    found = {v["version"]: v for v in body["versions"]}
    assert found["half"]["generation"] == worlds["half"].generation
    assert all(v["ready"] for v in found.values())


def test_it_lives_and_is_ready(asked: Session) -> None:
    assert asked.get("/livez").json() == {"status": "alive"}
    assert asked.get("/readyz").json() == {"status": "ready"}
