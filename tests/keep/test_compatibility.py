"""Maps between versions: ridge regression against a slow solution, and what is held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from keep.checkpoint import Pretraining
from keep.compatibility import (
    Shared,
    compatibility,
    fit_map,
    fit_maps,
    relative_errors,
    shared_vectors,
)
from keep.knowledge import student_knowledge, student_vectors
from keep.log import Log
from keep.recipes.pretrain import pretrain
from tests.keep.tiny import CONFIG

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def versions(log: Log, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pretraining, Pretraining]:
    """A new version from another seed, and the old one."""
    folder = tmp_path_factory.mktemp("ckpt")
    new = pretrain(log, folder / "new", config=replace(CONFIG, seed=9))
    return new, pretrain(log, folder / "old", until=2, config=CONFIG)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def test_an_exact_linear_relation_is_found() -> None:
    new, turn, shift = normal(200, 4), normal(3, 4), normal(3)
    found = fit_map(new, new @ turn.T + shift, RNG.uniform(1, 9, 200), ridge=0.0)
    np.testing.assert_allclose(found.weight, turn, atol=1e-4)
    np.testing.assert_allclose(found.bias, shift, atol=1e-4)
    layer = found.as_layer()
    np.testing.assert_allclose(
        layer(torch.from_numpy(new)).detach().numpy(), found(new), rtol=1e-4, atol=1e-5
    )


def test_ridge_is_the_weighted_least_squares_of_an_augmented_system() -> None:
    new, old, weight, ridge = normal(50, 3), normal(50, 2), RNG.uniform(1, 5, 50), 0.3
    found = fit_map(new, old, weight, ridge)
    share = weight / weight.sum()
    centred = new - (share[:, None] * new).sum(axis=0)
    target = old - (share[:, None] * old).sum(axis=0)
    variance = sum(share[row] * centred[row] @ centred[row] for row in range(50)) / 3
    rows = np.vstack([np.sqrt(share)[:, None] * centred, np.sqrt(ridge * variance) * np.eye(3)])
    values = np.vstack([np.sqrt(share)[:, None] * target, np.zeros((3, 2))])
    expected, *_ = np.linalg.lstsq(rows, values, rcond=None)
    np.testing.assert_allclose(found.weight, expected.T, rtol=1e-4, atol=1e-5)


def test_frequent_ids_are_mapped_best() -> None:
    new = normal(100, 2)
    old = np.where(np.arange(100)[:, None] < 50, new, -new)
    weight = np.where(np.arange(100) < 50, 1000.0, 1.0)
    found = fit_map(new, old, weight, ridge=0.0)
    np.testing.assert_allclose(found.weight, np.eye(2), atol=0.05)


def test_errors_are_of_ids_that_the_map_has_not_seen() -> None:
    noise = {part: Shared(normal(60, 30), normal(60, 30), np.ones(60)) for part in ("user", "item")}
    exact = Shared(normal(60, 3), normal(60, 3), np.ones(60))
    shared = {**noise, "user_category": replace(exact, old=exact.new @ normal(3, 3))}
    errors = relative_errors(shared, ridge=1e-6)
    assert errors["user_category"] < 0.01
    assert errors["user"] > 0.9
    assert set(errors) == {"user", "item", "user_category", "user_item"}


def test_a_mapped_version_lies_nearer_to_the_old_axes(
    versions: tuple[Pretraining, Pretraining], log: Log
) -> None:
    new, old = versions
    shared = shared_vectors(new, old, log)
    assert len(shared["user"].weight) == 40
    assert shared["user"].weight.sum() == 800  # impressions up to the old version's day
    maps = fit_maps(shared, 0.01)
    day = log.day(5)
    ids = (day.user, day.item, day.category)
    mapped = student_knowledge(new, *ids, maps=maps)
    plain, wanted = student_knowledge(new, *ids), student_knowledge(old, *ids)
    width = new.config.dim
    for part in (slice(0, width), slice(width, 2 * width), slice(3 * width, None)):
        before = np.abs(plain[:, part] - wanted[:, part]).mean()
        assert np.abs(mapped[:, part] - wanted[:, part]).mean() < 0.7 * before
    np.testing.assert_array_equal(
        mapped[:, 2 * width : 3 * width], mapped[:, :width] * mapped[:, width : 2 * width]
    )


def test_mapped_vectors_are_of_the_older_space_unless_they_miss_it(
    versions: tuple[Pretraining, Pretraining], state: Pretraining, log: Log
) -> None:
    other_seed, old = versions
    gone_on_with = compatibility(state, old, "old", log)
    assert gone_on_with.vector_space == old.vector_space != state.vector_space
    missed = compatibility(other_seed, old, "old", log)
    assert max(missed.relative_error.values()) >= 1
    assert missed.vector_space is None


def test_shared_vectors_are_those_that_both_versions_export(
    versions: tuple[Pretraining, Pretraining], log: Log
) -> None:
    new, old = versions
    shared = shared_vectors(new, old, log)["user_category"]
    days = [log.day(1), log.day(2)]
    user = np.concatenate([day.user for day in days])
    category = np.concatenate([day.category for day in days])
    _, both = student_vectors(old, "user_category", user, user, category)
    assert len(shared.weight) <= len(np.unique(np.stack([user, category], 1)[both], axis=0))
    assert (shared.weight >= 1).all()
