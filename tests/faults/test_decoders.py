"""A few of the inputs of `tests.faults.decoders`: the same ones each time, and others."""

from __future__ import annotations

import secrets

import pytest

from tests.faults.decoders import run

INPUTS = 1500


@pytest.mark.parametrize("seed", [1, secrets.randbits(32)], ids=["known", "new"])
def test_every_input_is_answered_or_refused(seed: int) -> None:
    result = run(INPUTS, seed)
    assert not result.faults
    assert result.inputs == INPUTS
    assert {200, 400, 413, 422} <= result.statuses.keys()
