"""The teacher: shapes, equation 4, and that it can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from keep.config import PretrainConfig
from keep.din import Teacher
from keep.features import draw_partners, make_batch
from keep.layers import TableSizes
from keep.models import task_losses
from keep.pretraining import start
from tests.keep.tiny import CONFIG, tiny_days

SIZES = TableSizes(users=9, items=8, shops=4, categories=5)


def test_widths_are_the_paper_s() -> None:
    teacher = Teacher(SIZES, PretrainConfig())
    assert teacher.user.embedding_dim == 48
    assert teacher.features.item.embedding_dim == teacher.features.category.embedding_dim == 16
    for task in range(3):
        hidden = teacher.tasks.hidden[task]
        logits = teacher.tasks.logits[task]
        assert isinstance(hidden, torch.nn.Sequential)
        assert isinstance(logits, torch.nn.Linear)
        widths = [layer.out_features for layer in hidden if isinstance(layer, torch.nn.Linear)]
        assert [*widths, logits.out_features] == [512, 256, 128, 64, 2]


def test_knowledge_is_equation_4() -> None:
    torch.manual_seed(0)
    teacher = Teacher(SIZES, PretrainConfig())
    user, behaviours = torch.tensor([3, 4]), torch.tensor([[0, 2, 3], [0, 0, 0]])
    items = torch.tensor([[5, 2, 3], [6, 3, 4]])
    knowledge = teacher.knowledge(user, behaviours, items)
    assert knowledge.shape == (2, 48 + 48 + 3 * 64)
    torch.testing.assert_close(knowledge[:, :48], teacher.user(user))
    torch.testing.assert_close(knowledge[:, 48:96], teacher.features(items))
    shared = teacher.shared(user, behaviours, items.unsqueeze(1)).squeeze(1)
    for task in range(3):
        k_ui = knowledge[:, 96 + 64 * task : 160 + 64 * task]
        z = teacher.tasks.logits[task](k_ui)
        torch.testing.assert_close(teacher.tasks(task, shared), z[:, 1] - z[:, 0])


def test_padding_behaviours_change_nothing() -> None:
    torch.manual_seed(0)
    teacher = Teacher(SIZES, CONFIG)
    user, items = torch.tensor([3]), torch.tensor([[5, 2, 3]])
    short = teacher.knowledge(user, torch.tensor([[2, 3]]), items)
    left = teacher.knowledge(user, torch.tensor([[0, 0, 2, 3]]), items)
    right = teacher.knowledge(user, torch.tensor([[2, 3, 0]]), items)
    torch.testing.assert_close(short, left)
    torch.testing.assert_close(short, right)


@pytest.mark.parametrize("name", ["teacher", "two_tower", "category"])
def test_each_model_fits_one_batch_in_twenty_steps(name: str) -> None:
    day = tiny_days()[2]
    state = start(day, CONFIG)
    state.features.observe(tiny_days()[1])
    rows = state.features.encode(day)
    rng = np.random.default_rng(0)
    samples = np.arange(64)
    partners = draw_partners(rows, rng)[samples]
    batch = make_batch(rows, state.features, samples, partners, 0.0, rng)
    model, optimizer = state.models.get_submodule(name), state.optimizers[name]
    optimizer.param_groups[0]["lr"] = 0.03
    losses = []
    for _ in range(20):
        loss = torch.stack(task_losses(model(batch), batch, CONFIG)).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
