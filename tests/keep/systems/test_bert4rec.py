"""The Cloze objective against plain NumPy, and what pre-training may see."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from keep.data import Data
from keep.systems import base
from keep.systems.bert4rec import BERT4REC, Cloze, pretrain
from keep.systems.sequences import windows
from keep.systems.transformer import Options, make_encoder
from tests.keep.tiny import DAYS, tiny_log

OPTIONS = Options(feature_dim=4, hidden=(16, 8), epochs=2, pretrain_batch_size=16)
T = 6


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tiny_log(tmp_path / "log"), DAYS, behaviours=T)


def cloze(data: Data, found: np.ndarray) -> Cloze:
    torch.manual_seed(0)
    items, counts = np.unique(found[found > 0], return_counts=True)
    return Cloze(make_encoder(data, OPTIONS), items, counts).eval()


def test_the_loss_is_a_softmax_over_clicked_items_at_hidden_clicks(data: Data) -> None:
    found = windows(data, (1, 2))[:4]
    objective = cloze(data, found)
    hidden = (np.random.default_rng(0).random(found.shape) < 0.4) & (found > 0)
    state = {name: value.detach().numpy() for name, value in objective.state_dict().items()}
    items, counts = np.unique(found[found > 0], return_counts=True)
    features = objective.encoder.features.behaviours(torch.from_numpy(items)).detach().numpy()
    encoded = objective.encoder(torch.from_numpy(found), torch.from_numpy(hidden))
    total = 0.0
    for line, column in zip(*np.nonzero(hidden), strict=True):
        h = encoded[line, column].detach().numpy()
        h = state["project.weight"] @ h + state["project.bias"]
        h = np.array([0.5 * z * (1 + math.erf(z / math.sqrt(2))) for z in h])
        logits = features @ h + np.log(counts / counts.sum())
        own = logits[items.tolist().index(found[line, column])]
        total += np.log(np.exp(logits).sum()) - own
    loss = objective(torch.from_numpy(found), torch.from_numpy(hidden)).item()
    assert loss == pytest.approx(total / hidden.sum(), rel=1e-4)


def test_nothing_hidden_is_no_loss(data: Data) -> None:
    found = windows(data, (1, 2))[:4]
    loss = cloze(data, found)(torch.from_numpy(found), torch.zeros(4, T, dtype=torch.bool))
    assert loss.item() == 0.0


def test_a_few_windows_can_be_learned_by_heart(data: Data) -> None:
    found = windows(data, (1, 2, 3))[:3]
    objective = cloze(data, found)
    batch = torch.from_numpy(found), torch.from_numpy((np.arange(T) % 3 == 2) & (found > 0))
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    first = objective(*batch).item()
    for _ in range(60):
        optimizer.zero_grad()
        objective(*batch).backward()
        optimizer.step()
    assert first > 1.5
    assert objective(*batch).item() < 0.1


def test_pretraining_changes_no_item_that_was_not_clicked(data: Data) -> None:
    encoder = pretrain(data, (1,), OPTIONS, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        fresh = make_encoder(data, OPTIONS)
    changed = (encoder.features.item.weight != fresh.features.item.weight).any(dim=1).numpy()
    np.testing.assert_array_equal(np.flatnonzero(changed), np.setdiff1d(windows(data, (1,)), 0))
    assert not changed.all()


def test_pretraining_repeats_itself(data: Data) -> None:
    first, second = (pretrain(data, (1, 2, 3), OPTIONS, seed=4) for _ in range(2))
    assert not first.training
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)


def test_pretraining_reads_no_label_from_the_first_training_day_on(tmp_path: Path) -> None:
    encoders = [
        pretrain(Data(tiny_log(tmp_path / str(day), flip_from=day), DAYS, T), (1, 2, 3), OPTIONS, 1)
        for day in (4, DAYS + 1)
    ]
    left, right = (dict(encoder.state_dict()) for encoder in encoders)
    torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_the_test_day_s_labels_change_no_score(tmp_path: Path) -> None:
    scores, labels = [], []
    for day in (DAYS, DAYS + 1):
        data = Data(tiny_log(tmp_path / str(day), flip_from=day), DAYS, T)
        encoder = pretrain(data, (1, 2, 3), OPTIONS, seed=1)
        test = data.sub_domain(DAYS)
        scores.append(BERT4REC.train(data, (4,), OPTIONS, 1, side_input=encoder).score(test))
        labels.append(test.rows.labels)
    assert not np.array_equal(labels[0], labels[1])
    np.testing.assert_array_equal(scores[0], scores[1])


def test_the_grid_starts_from_base_s_best() -> None:
    best = base.Options(embedding_std=0.1, hidden=(10, 5))
    trials = BERT4REC.grid(best)
    assert len(set(trials)) == 12
    assert {trial.embedding_std for trial in trials} == {0.1}
    assert {trial.hidden for trial in trials} == {(10, 5)}
    assert all(isinstance(trial, Options) for trial in trials)
