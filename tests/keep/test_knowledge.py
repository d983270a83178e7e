"""Knowledge of raw ids: the teacher's parts, and the students' rows as the store has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gkc.client.knowledge import Knowledge as Answered
from gkc.knowledge import PARTS, part_spans
from keep import knowledge
from keep.bundle import make_tables
from keep.checkpoint import Pretraining
from keep.config import PretrainConfig
from keep.features import UNKNOWN
from keep.knowledge import (
    is_exported,
    knowledge_of,
    logits_and_category,
    student_knowledge,
    tasks_told,
    teacher_logits,
    teacher_spans,
)
from keep.layers import TableSizes
from keep.log import Day, Log
from keep.models import Models, score_clicks


@pytest.fixture(scope="module")
def day(log: Log) -> Day:
    return log.day(5)


def test_the_teacher_s_parts_follow_equation_4() -> None:
    assert teacher_spans(PretrainConfig()) == {
        "user": (0, 48),
        "item": (48, 96),
        "click": (96, 160),
        "conversion": (160, 224),
        "cart": (224, 288),
    }


def test_the_user_s_part_is_the_embedding_of_its_id(state: Pretraining, day: Day) -> None:
    rows = knowledge_of(state, day)
    first, end = teacher_spans(state.config)["user"]
    table = state.models.teacher.user.weight.detach().numpy()
    np.testing.assert_array_equal(rows[:, first:end], table[state.features.users.rows(day.user)])


def test_rows_do_not_depend_on_how_they_are_batched(
    state: Pretraining, day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = knowledge_of(state, day)
    learned = student_knowledge(state, day.user, day.item, day.category)
    monkeypatch.setattr(knowledge, "BATCH_ROWS", 11)
    parts = knowledge_of(state, day)
    np.testing.assert_allclose(taught, parts, rtol=1e-4, atol=1e-6)
    parts = student_knowledge(state, day.user, day.item, day.category)
    np.testing.assert_allclose(learned, parts, rtol=1e-4, atol=1e-6)


def test_no_rows_have_the_width_of_some(state: Pretraining, day: Day) -> None:
    nothing = Day(**{name: column[:0] for name, column in vars(day).items()})
    assert knowledge_of(state, nothing).shape == (0, knowledge_of(state, day).shape[1])


def test_a_student_s_row_is_equation_6(state: Pretraining, day: Day) -> None:
    rows = student_knowledge(state, day.user, day.item, day.category)
    d = state.config.dim
    assert rows.shape == (len(day), 3 * d + state.config.category_dim)
    np.testing.assert_array_equal(rows[:, 2 * d : 3 * d], rows[:, :d] * rows[:, d : 2 * d])


def test_unknown_ids_have_the_default_vectors(state: Pretraining, day: Day) -> None:
    unknown = np.full(2, 987_654_321)
    rows = student_knowledge(state, unknown, unknown, unknown)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-6)  # a kernel may add up in another order
    known = student_knowledge(state, day.user[:1], unknown[:1], day.category[:1])
    d = state.config.dim
    np.testing.assert_allclose(known[0, d : 2 * d], rows[0, d : 2 * d], rtol=1e-6)
    assert not np.allclose(known[0, :d], rows[0, :d])


@pytest.mark.parametrize("top", [0, 1, 3])
def test_exported_pairs_are_those_of_the_bundle_s_table(state: Pretraining, top: int) -> None:
    features = state.features
    users, categories = np.meshgrid(
        np.arange(len(features.users)), np.arange(len(features.categories)), indexing="ij"
    )
    found = is_exported(features, users.ravel(), categories.ravel(), top)
    table = make_tables(features, top).user_categories
    exported = set(
        zip(
            features.users.rows(table["user_id"].to_numpy()).tolist(),
            table["category_row"].to_pylist(),
            strict=True,
        )
    )
    expected = [pair in exported for pair in zip(users.ravel(), categories.ravel(), strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert UNKNOWN not in {user for user, _ in exported}


def test_as_stored_vectors_are_rounded_before_the_product(
    state: Pretraining, day: Day, tmp_path: Path
) -> None:
    exact = student_knowledge(state, day.user, day.item, day.category)
    stored = student_knowledge(state, day.user, day.item, day.category, as_stored=True)
    d = state.config.dim
    rounded = exact.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(stored[:, : 2 * d], rounded[:, : 2 * d])
    np.testing.assert_array_equal(stored[:, 2 * d : 3 * d], rounded[:, :d] * rounded[:, d : 2 * d])


def test_the_teacher_s_logits_are_those_of_its_own_rows(state: Pretraining, day: Day) -> None:
    logits = teacher_logits(state, knowledge_of(state, day))
    features = state.features
    clicks = score_clicks(state.models.teacher, features.encode(day), features)
    assert logits.shape == (len(day), 3)
    np.testing.assert_allclose(logits[:, 0], clicks, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("towers", ["task", "shared"])
def test_chosen_columns_are_a_client_s_logits_and_k_uc(
    state: Pretraining, day: Day, towers: str
) -> None:
    config = replace(state.config, towers=towers)
    models = Models(TableSizes(3, 3, 3, 3), config, ("two_tower",))
    if towers == "shared":
        torch.nn.init.normal_(models.two_tower.task_weights)
    d, width = config.dim, 3 * config.dim + config.category_dim
    rows = np.random.default_rng(0).normal(size=(5, width)).astype(np.float32)
    chosen = logits_and_category(rows, models.two_tower.logit_weights.numpy())
    told = tasks_told(replace(state, config=config, models=models))
    spans = {str(part): span for part, span in part_spans(PARTS, d, config.category_dim).items()}
    answer = Answered(rows, np.ones((5, 4), np.uint8), spans, {"v": "g"}, {"v": told})
    np.testing.assert_allclose(chosen[:, :3], answer.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(chosen[:, 3:], answer["user_category"])
