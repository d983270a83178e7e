from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan import JSON, SAFETENSORS
from loadtest.traffic import (
    COLD_ITEMS,
    COLD_USERS,
    JSON_ANSWERS,
    MAX_CANDIDATES,
    MEDIAN_CANDIDATES,
    Ids,
    Known,
    candidate_counts,
    draw,
    zipf_ranks,
)

KNOWN = Known({"20211219": 64, "20211220": 64}, Ids(1000, 0, 1_000_003), Ids(5000), True)


@given(of=st.integers(1, 10**9), seed=st.integers(0, 2**32))
def test_ranks_are_within_what_there_is(of: int, seed: int) -> None:
    ranks = zipf_ranks(np.random.default_rng(seed), of, 100)
    assert ranks.dtype == np.int64
    assert ranks.min() >= 0
    assert ranks.max() < of


def test_ranks_follow_the_law_that_is_stated() -> None:
    of, count = 1000, 200_000
    shares = np.bincount(zipf_ranks(np.random.default_rng(7), of, count), minlength=of) / count
    k = np.arange(of)
    stated = np.log((k + 2) / (k + 1)) / np.log(of + 1)
    assert stated.sum() == pytest.approx(1.0)
    error = np.sqrt(stated / count)
    assert np.all(np.abs(shares - stated) < 6 * error)


@given(seed=st.integers(0, 2**32))
def test_numbers_of_candidates_are_1_to_1000(seed: int) -> None:
    counts = candidate_counts(np.random.default_rng(seed), 1000)
    assert counts.min() >= 1
    assert counts.max() <= MAX_CANDIDATES


def test_numbers_of_candidates_are_skewed_about_the_stated_median() -> None:
    counts = candidate_counts(np.random.default_rng(7), 100_000)
    assert abs(np.median(counts) - MEDIAN_CANDIDATES) < 3
    assert counts.mean() > 1.5 * MEDIAN_CANDIDATES
    assert {1, MAX_CANDIDATES} <= set(counts.tolist())


def test_requests_have_the_stated_shares() -> None:
    questions = draw(KNOWN, 4000)
    cold_users = np.mean([question.body["u"] < 0 for question in questions])
    items = np.concatenate([question.body["i"] for question in questions])
    json = np.mean([question.accept == JSON for question in questions])
    newest = np.mean([question.body["v"] == "20211220" for question in questions])
    assert abs(cold_users - COLD_USERS) < 0.02
    assert abs(np.mean(items < 0) - COLD_ITEMS) < 0.002
    assert abs(json - JSON_ANSWERS) < 0.03
    assert abs(newest - 0.5) < 0.05


def test_ids_that_are_not_cold_are_those_that_were_exported() -> None:
    for question in draw(KNOWN, 300):
        user, items = question.body["u"], question.body["i"]
        assert user < 0 or user % 1_000_003 == 0
        assert user < 1000 * 1_000_003
        assert all(item < 5000 for item in items)


def test_safetensors_is_asked_for_in_f16_and_json_as_it_comes() -> None:
    dtypes = {(question.accept, question.body.get("dtype")) for question in draw(KNOWN, 300)}
    assert dtypes == {(SAFETENSORS, "f16"), (JSON, None)}


def test_the_same_seed_draws_the_same_requests() -> None:
    assert draw(KNOWN, 20) == draw(KNOWN, 20)
    assert draw(KNOWN, 20, seed=1) != draw(KNOWN, 20)


def test_a_service_that_knows_one_user_and_one_item_can_be_asked() -> None:
    known = Known({"v": 64}, Ids(1, 1), Ids(1, 1), is_complete=False)
    asked = draw(known, 50)
    assert {question.body["u"] for question in asked if question.body["u"] > 0} == {1}
