"""The teacher: shapes, equation 4, and that it can learn."""

from __future__ import annotations

import numpy as np
import torch

from keep.checkpoint import make_optimizer
from keep.config import PretrainConfig
from keep.din import Teacher
from keep.features import Features, draw_partners, make_batch
from keep.layers import TableSizes
from keep.models import task_losses
from keep.recipes.pretrain import start
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


def test_the_three_models_fit_one_batch_in_twenty_steps() -> None:
    day = tiny_days()[2]
    state = start(day, CONFIG)
    features: Features = state.features
    features.observe(tiny_days()[1])
    rows = features.encode(day)
    rng = np.random.default_rng(0)
    samples = np.arange(64)
    batch = make_batch(rows, features, samples, draw_partners(rows, rng)[samples], 0.0, rng)
    optimizer = make_optimizer(state.models, CONFIG)
    optimizer.param_groups[0]["lr"] = 0.03
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for step in range(20):
        logits = state.models(batch)
        losses = {
            name: torch.stack(task_losses(logits[name], batch, 0.25)).sum() for name in logits
        }
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        last = {name: loss.item() for name, loss in losses.items()}
        first = first if step else last
    assert set(last) == {"teacher", "two_tower", "category"}
    for name, loss in last.items():
        assert loss < 0.7 * first[name], name
