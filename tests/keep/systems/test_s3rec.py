"""The four objectives against plain NumPy, their views, and what pre-training may see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from keep.data import Data
from keep.systems import base
from keep.systems.s3rec import S3REC, Objectives, Options, Views, draw_views, pretrain
from keep.systems.sequences import windows
from keep.systems.transformer import make_encoder
from tests.keep.tiny import DAYS, tiny_log

OPTIONS = Options(feature_dim=4, hidden=(16, 8), epochs=2, pretrain_batch_size=16)
T = 6


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tiny_log(tmp_path / "log"), DAYS, behaviours=T)


@pytest.fixture
def found(data: Data) -> np.ndarray:
    return windows(data, (1, 2, 3))


def objectives(data: Data, found: np.ndarray) -> Objectives:
    torch.manual_seed(0)
    return Objectives(make_encoder(data, OPTIONS), found[found > 0], OPTIONS).eval()


def draw(found: np.ndarray, seed: int = 0) -> Views:
    stream = found[found > 0]
    return draw_views(found, stream, np.unique(stream), 0.2, np.random.default_rng(seed))


def log_sigmoid(x: float) -> float:
    return float(-np.log1p(np.exp(-x)))


def slow_attributes(
    data: Data, objective: Objectives, compared: np.ndarray, items: np.ndarray, found: np.ndarray
) -> float:
    """Log-likelihood that an item has its own values and no others, one pair at a time."""
    total = 0.0
    clicked = found[found > 0]
    for name, of_item in (
        ("shop", data.features.item_shop),
        ("category", data.features.item_category),
    ):
        table = getattr(objective.encoder.features, name).weight.detach().numpy()
        share = {value: np.mean(of_item[clicked] == value) for value in set(of_item[clicked])}
        for view, item in zip(compared, items, strict=True):
            for value, p in share.items():
                odds = (p * len(clicked) + 1) / ((1 - p) * len(clicked) + 1)
                logit = view @ table[value] + np.log(odds)
                total -= log_sigmoid(logit if of_item[item] == value else -logit)
    return total


def test_attributes_are_told_from_all_others_by_item_and_by_context(
    data: Data, found: np.ndarray
) -> None:
    objective = objectives(data, found)
    items = found[:5, -1]
    e = objective.encoder.features.item.weight.detach().numpy()[items]
    compared = e @ objective.compare_attribute.weight.detach().numpy().T
    loss = objective.associated_attributes(torch.from_numpy(items)).item()
    assert loss == pytest.approx(slow_attributes(data, objective, compared, items, found), rel=1e-4)

    context = torch.randn(5, 12)
    compared = context.numpy() @ objective.compare_masked_attribute.weight.detach().numpy().T
    loss = objective.masked_attributes(context, torch.from_numpy(items)).item()
    assert loss == pytest.approx(slow_attributes(data, objective, compared, items, found), rel=1e-4)


def test_a_hidden_item_is_told_from_another_by_context(data: Data, found: np.ndarray) -> None:
    objective = objectives(data, found)
    context, items, others = torch.randn(5, 12), found[:5, -1], found[5:10, -1]
    w = objective.compare_item.weight.detach().numpy()
    e = objective.encoder.features.item.weight.detach().numpy()
    expected = 0.0
    for f, item, other in zip(context.numpy(), items, others, strict=True):
        expected -= log_sigmoid((w @ f) @ e[item]) + log_sigmoid(-(w @ f) @ e[other])
    loss = objective.masked_items(context, torch.from_numpy(items), torch.from_numpy(others))
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_segment_is_told_from_a_stranger_by_what_is_left(data: Data, found: np.ndarray) -> None:
    objective = objectives(data, found)
    part = found[:4]
    views = draw(part)
    w = objective.compare_segment.weight.detach().numpy()
    expected = 0.0
    for line in range(4):
        segment = torch.from_numpy(views.segment[[line]])
        encoded = [
            objective.encoder(torch.from_numpy(items[[line]]), hidden)[0, -1].detach().numpy()
            for items, hidden in ((part, segment), (part, ~segment), (views.strangers, ~segment))
        ]
        around, inside, strange = encoded
        expected -= log_sigmoid((w @ around) @ inside) + log_sigmoid(-(w @ around) @ strange)
    loss = objective.segments(torch.from_numpy(part), views).item()
    assert loss == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_their_weighted_sum_per_window(data: Data, found: np.ndarray) -> None:
    objective = objectives(data, found)
    part, views = torch.from_numpy(found[:4]), draw(found[:4])
    hidden = torch.from_numpy(views.hidden)
    context = objective.encoder(part, hidden)[hidden]
    negatives = torch.from_numpy(views.negatives)[hidden]
    expected = (
        0.2 * objective.associated_attributes(part[(part != 0) & ~hidden])
        + 1.0 * objective.masked_items(context, part[hidden], negatives)
        + 1.0 * objective.masked_attributes(context, part[hidden])
        + 0.5 * objective.segments(part, views)
    ) / 4
    torch.testing.assert_close(objective(part, views), expected)


def test_views_are_what_they_say(found: np.ndarray) -> None:
    stream = found[found > 0]
    lines = {tuple(stream[k : k + n]) for n in range(1, 4) for k in range(len(stream) - n + 1)}
    lengths = set()
    for seed in range(5):
        views = draw(found, seed)
        there = found > 0
        assert np.all(views.negatives != found)
        assert set(views.negatives.ravel()) <= set(stream)
        assert not (views.segment & ~there).any()
        assert not (views.hidden & ~there).any()
        np.testing.assert_array_equal(views.strangers[~views.segment], found[~views.segment])
        for line, window in zip(views.segment, views.strangers, strict=True):
            (place,) = np.nonzero(line)
            assert np.all(np.diff(place) == 1)
            assert tuple(window[place]) in lines
        length, count = views.segment.sum(axis=1), there.sum(axis=1)
        assert np.all((length >= 1) & (length <= count // 2))
        lengths |= set(length.tolist())
    assert lengths == {1, 2, 3}


def test_a_few_windows_can_be_learned_by_heart(data: Data, found: np.ndarray) -> None:
    part = found[:4]
    objective, views = objectives(data, part), draw(part, seed=3)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    first = objective(torch.from_numpy(part), views).item()
    for _ in range(150):
        optimizer.zero_grad()
        objective(torch.from_numpy(part), views).backward()
        optimizer.step()
    assert objective(torch.from_numpy(part), views).item() < 0.1 * first


def test_pretraining_changes_no_id_that_was_not_clicked(data: Data) -> None:
    encoder = pretrain(data, (1,), OPTIONS, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        fresh = make_encoder(data, OPTIONS)
    changed = (encoder.features.item.weight != fresh.features.item.weight).any(dim=1).numpy()
    assert set(np.flatnonzero(changed)) <= set(windows(data, (1,)).ravel()) - {0}
    assert changed.any()
    for table in (encoder.features.item, encoder.features.shop, encoder.features.category):
        assert (table.weight[0] == 0).all()


def test_pretraining_reads_no_label_from_the_first_training_day_on(tmp_path: Path) -> None:
    encoders = [
        pretrain(Data(tiny_log(tmp_path / str(day), flip_from=day), DAYS, T), (1, 2, 3), OPTIONS, 1)
        for day in (4, DAYS + 1)
    ]
    left, right = (dict(encoder.state_dict()) for encoder in encoders)
    torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_the_test_day_s_labels_change_no_score(tmp_path: Path) -> None:
    scores = []
    for day in (DAYS, DAYS + 1):
        data = Data(tiny_log(tmp_path / str(day), flip_from=day), DAYS, T)
        encoder = pretrain(data, (1, 2, 3), OPTIONS, seed=1)
        scores.append(
            S3REC.train(data, (4,), OPTIONS, 1, side_input=encoder).score(data.sub_domain(DAYS))
        )
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.ptp(scores[0]) > 0


def test_the_grid_starts_from_base_s_best() -> None:
    trials = S3REC.grid(base.Options(embedding_std=0.1))
    assert len(set(trials)) == 12
    assert {trial.embedding_std for trial in trials} == {0.1}
    assert all(isinstance(trial, Options) for trial in trials)
