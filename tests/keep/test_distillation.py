"""Distillation: students follow the frozen teacher, and nothing else tells them anything."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from keep import distillation as module
from keep.bundle import bundle
from keep.checkpoint import Pretraining, load_checkpoint, save_checkpoint
from keep.config import DistillationConfig
from keep.distillation import DistillationError, Stopping, distil, user_correlations
from keep.features import PADDING, UNKNOWN
from keep.log import Log
from keep.pairs import FreePairs, shown_until
from keep.pretraining import start
from tests.keep.tiny import CONFIG, tiny_days, tiny_log

SETTINGS = DistillationConfig(most_steps=150)


@pytest.fixture(scope="module")
def distilled(state: Pretraining, log: Log) -> Pretraining:
    return distil(state, log, SETTINGS)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_students_follow_the_teacher_better_and_the_state_stays_as_it_was(
    state: Pretraining, log: Log
) -> None:
    before = weights(state.models)
    done = distil(state, log, SETTINGS)
    assert equal(before, weights(state.models))
    assert done.models.teacher is state.models.teacher
    assert done.optimizers == {}
    assert state.distillation is None
    assert done.distillation is not None
    for lesson in done.distillation.students.values():
        assert np.nanmean(lesson.after["click"]) > np.nanmean(lesson.before["click"])
        assert lesson.steps <= SETTINGS.most_steps


def test_tables_are_the_teacher_s_unless_they_are_trained(
    state: Pretraining, log: Log, distilled: Pretraining
) -> None:
    own = distil(state, log, replace(SETTINGS, train_tables=True)).models
    for name in ("two_tower", "category"):
        for table in ("user", "features"):
            teacher = weights(state.models.teacher.get_submodule(table))
            assert equal(teacher, weights(distilled.models.get_submodule(f"{name}.{table}")))
            assert not equal(teacher, weights(own.get_submodule(f"{name}.{table}")))


def test_the_seed_fixes_all_chance(state: Pretraining, log: Log, distilled: Pretraining) -> None:
    assert distil(state, log, SETTINGS).vector_space == distilled.vector_space
    other = replace(state, config=replace(state.config, seed=9))
    assert distil(other, log, SETTINGS).vector_space != distilled.vector_space


def test_nothing_after_the_checkpoint_s_day_and_no_label_is_used(
    state: Pretraining, distilled: Pretraining, log: Log, tmp_path: Path
) -> None:
    """The files of a bundle that hold vectors are equal to the bit, whatever came later."""
    others = {
        "labels of all days": tiny_log(tmp_path / "labels", flip_from=1),
        "impressions of later days": tiny_log(tmp_path / "later", later_seed=99),
    }
    bundle(distilled, log, tmp_path / "bundle")
    for name, other in others.items():
        assert other.info.checksum != log.info.checksum, name
        bundle(distil(state, other, SETTINGS), other, tmp_path / name)
        for file in [*tmp_path.glob("bundle/*.onnx"), *tmp_path.glob("bundle/*.parquet")]:
            assert file.read_bytes() == (tmp_path / name / file.name).read_bytes(), (name, file)


def test_what_the_teacher_says_of_shown_pairs_changes_nothing(
    state: Pretraining, log: Log, distilled: Pretraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = module._lesson

    def changed(*args: object) -> module.Lesson:
        said = lesson(*args)  # type: ignore[arg-type]
        return said._replace(logits=said.logits + 5.0 * ~said.free.unsqueeze(-1))

    monkeypatch.setattr(module, "_lesson", changed)
    assert distil(state, log, SETTINGS).vector_space == distilled.vector_space


def test_an_unknown_user_has_no_behaviours_and_an_unknown_item_no_category() -> None:
    user, items = torch.arange(2, 2002), torch.arange(6000).view(2000, 3) + 2
    lesson = module.Lesson(user, items, items, *[torch.empty(0)] * 4)
    found, behaviours, candidates = module._with_unknown(lesson, 0.3, np.random.default_rng(1))
    for rows, shown, expected, unknown in (
        (found == UNKNOWN, behaviours, items, PADDING),
        (candidates[:, 0] == UNKNOWN, candidates, items, UNKNOWN),
    ):
        assert 0.2 < rows.float().mean() < 0.4
        assert (shown[rows] == unknown).all()
        assert torch.equal(shown[~rows], expected[~rows])


def test_hidden_targets_are_means_of_the_teacher_s_k_ui_over_a_category_s_items(
    state: Pretraining, log: Log
) -> None:
    features, teacher = state.features, state.models.teacher
    rng = np.random.default_rng(1)
    pairs = FreePairs(features, shown_until(features, log, 3), rng)
    of_categories = pairs.most_shown(4)
    lesson = module._lesson(pairs.training_block(5, 6, rng), features, teacher, of_categories)
    for place, category in enumerate(lesson.categories.tolist()):
        items = [item for item in of_categories[category] if item != PADDING]
        triples = torch.from_numpy(features.item_triples(np.array(items)))
        k_ui = [
            teacher.knowledge(user.expand(len(items)), shown.expand(len(items), -1), triples)
            for user, shown in zip(lesson.user, lesson.behaviours, strict=True)
        ]
        expected = torch.stack([rows[:, -lesson.hidden.shape[2] :].mean(dim=0) for rows in k_ui])
        torch.testing.assert_close(lesson.hidden[:, place], expected)


def test_a_weight_brings_k_uc_nearer_to_them(state: Pretraining, log: Log) -> None:
    def error(settings: DistillationConfig) -> float:
        student = distil(state, log, settings).models.category
        rng = np.random.default_rng(1)
        pairs = FreePairs(state.features, shown_until(state.features, log, 3), rng)
        block = pairs.training_block(20, 20, rng)
        lesson = module._lesson(block, state.features, state.models.teacher, pairs.most_shown(16))
        categories = lesson.categories.expand(len(lesson.user), -1)
        shared = student.shared(lesson.user, lesson.behaviours, categories)
        return (student.all_knowledge(shared) - lesson.hidden).square().mean().item()

    assert error(replace(SETTINGS, hidden_weight=1.0)) < 0.9 * error(SETTINGS)
    narrow = replace(state, config=replace(state.config, category_width=2))
    with pytest.raises(DistillationError, match="K_uc is narrower than the teacher's K_ui"):
        distil(narrow, log, replace(SETTINGS, hidden_weight=1.0))


def test_stopping_keeps_the_best_weights_and_waits_for_a_gain() -> None:
    model = nn.Linear(1, 1)
    stopping = Stopping(model)
    scores = (0.5, 0.6, 0.6005, 0.6002, 0.6009)  # without a gain of .001 after the second
    gains = []
    for place, score in enumerate(scores):
        nn.init.constant_(model.weight, place)
        gains.append(stopping.gains(score))
    assert gains == [True, True, True, True, False]
    assert stopping.best == 0.6009
    nn.init.constant_(model.weight, -1.0)
    stopping.restore()
    assert model.weight.item() == 4


def test_a_student_that_would_get_worse_stays_as_it_was(
    state: Pretraining, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_score", lambda found: -np.nanmean(found["click"]))
    done = distil(state, log, SETTINGS)
    assert equal(weights(state.models), weights(done.models))
    assert done.distillation is not None
    for lesson in done.distillation.students.values():
        np.testing.assert_array_equal(lesson.after["click"], lesson.before["click"])


def test_minutes_end_it_too(state: Pretraining, log: Log) -> None:
    done = distil(state, log, replace(SETTINGS, most_minutes=0.0)).distillation
    assert done is not None
    assert [lesson.steps for lesson in done.students.values()] == [1, 1]


def test_correlations_are_those_of_each_user_s_free_pairs() -> None:
    rng = np.random.default_rng(1)
    scores, others = rng.random((2, 4, 9, 3))
    free = rng.random((4, 9)) < 0.7
    found = user_correlations(*map(torch.from_numpy, (scores, others, free)))
    for user in range(4):
        for task in range(3):
            pair = (part[user, free[user], task] for part in (scores, others))
            np.testing.assert_allclose(found[user, task], np.corrcoef(*pair)[0, 1])


def test_a_distilled_checkpoint_is_loaded_as_it_was_saved(
    distilled: Pretraining, log: Log, tmp_path: Path
) -> None:
    save_checkpoint(distilled, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.vector_space == distilled.vector_space
    assert repr(loaded.distillation) == repr(distilled.distillation)  # where NaN equals itself
    assert loaded.optimizers == {}
    with pytest.raises(DistillationError, match="are distilled already"):
        distil(loaded, log)


def test_few_ids_and_missing_models_are_refused(state: Pretraining, log: Log) -> None:
    alone = start(tiny_days()[1], CONFIG, ("two_tower", "category"))
    with pytest.raises(DistillationError, match="has no teacher"):
        distil(alone, log)
    few = copy.copy(tiny_days(per_day=10)[1])
    with pytest.raises(DistillationError, match="fewer than 20"):
        distil(start(few, CONFIG), log)


def test_a_log_of_other_days_or_users_is_refused(state: Pretraining, log: Log) -> None:
    early = replace(state, day=0)
    with pytest.raises(DistillationError, match="shows none of the checkpoint's users and items"):
        distil(early, log, SETTINGS)


def test_drawing_ends_where_nearly_every_pair_was_shown(
    state: Pretraining, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, users = len(state.features.items), len(state.features.users)
    everything = shown_until(state.features, log, 3)
    everything = replace(everything, pairs=np.arange(users * items))
    monkeypatch.setattr(module, "shown_until", lambda *_: everything)
    with pytest.raises(DistillationError, match="only 0 pairs drawn were never shown"):
        distil(state, log, SETTINGS)
