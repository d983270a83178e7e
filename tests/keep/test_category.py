"""The category-degenerated student: of an item it sees the category only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from keep.category import CategoryStudent
from keep.config import PretrainConfig
from keep.din import Teacher
from keep.features import Batch
from keep.layers import TableSizes
from tests.keep.tiny import CONFIG

SIZES = TableSizes(users=9, items=8, shops=4, categories=5)
USER = torch.tensor([3, 4])
BEHAVIOURS = torch.tensor([[0, 2, 3], [0, 0, 0]])


def test_knowledge_is_192_wide_by_default() -> None:
    student = CategoryStudent(SIZES, PretrainConfig())
    assert student.knowledge(USER, BEHAVIOURS, torch.tensor([3, 4])).shape == (2, 192)
    assert PretrainConfig().category_dim == 192


def test_item_and_shop_of_the_candidate_do_not_matter_but_those_of_behaviours_do() -> None:
    torch.manual_seed(0)
    student = CategoryStudent(SIZES, CONFIG)
    line = torch.arange(2)
    scored = ((line, torch.zeros_like(line)),) * 3

    def logits(items: list[list[int]], behaviours: torch.Tensor) -> torch.Tensor:
        candidates = torch.tensor(items).unsqueeze(1)
        batch = Batch(USER, behaviours, candidates, scored, (), (), line.numpy())
        return torch.stack(student(batch))

    found = logits([[5, 2, 3], [6, 3, 4]], BEHAVIOURS)
    assert torch.equal(found, logits([[7, 3, 3], [2, 2, 4]], BEHAVIOURS))
    assert not torch.equal(found, logits([[5, 2, 4], [6, 3, 4]], BEHAVIOURS))
    assert not torch.equal(found, logits([[5, 2, 3], [6, 3, 4]], BEHAVIOURS + 1))


def test_logits_come_from_the_knowledge() -> None:
    torch.manual_seed(0)
    student = CategoryStudent(SIZES, CONFIG)
    line = torch.arange(2)
    candidates = torch.tensor([[[5, 2, 3]], [[6, 3, 4]]])
    scored = ((line, torch.zeros_like(line)),) * 3
    batch = Batch(USER, BEHAVIOURS, candidates, scored, (), (), line.numpy())
    knowledge = student.knowledge(USER, BEHAVIOURS, torch.tensor([3, 4]))
    width = CONFIG.mlp[-1]
    for task, logits in enumerate(student(batch)):
        z = student.tasks.logits[task](knowledge[:, task * width : (task + 1) * width])
        torch.testing.assert_close(logits, z[:, 1] - z[:, 0])


@pytest.mark.parametrize("width", [1, 3])
def test_knowledge_can_be_narrower_than_the_teacher_s_or_the_logits_alone(width: int) -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, category_width=width)
    student = CategoryStudent(SIZES, config)
    knowledge = student.knowledge(USER, BEHAVIOURS, torch.tensor([3, 4]))
    assert knowledge.shape == (2, config.category_dim) == (2, 3 * width)
    shared = student.shared(USER, BEHAVIOURS, torch.tensor([[3], [4]])).squeeze(1)
    for task in range(3):
        own = knowledge[:, task * width : (task + 1) * width]
        logits = own[:, 0] if width == 1 else student.tasks.logit(task, own)
        torch.testing.assert_close(logits, student.tasks(task, shared))


def test_a_narrower_student_starts_from_the_teacher_but_for_its_last_layers() -> None:
    torch.manual_seed(0)
    teacher, config = Teacher(SIZES, CONFIG), replace(CONFIG, category_width=3)
    student = CategoryStudent(SIZES, config)
    before = {name: weight.clone() for name, weight in student.tasks.state_dict().items()}
    student.start_from(teacher)
    after = student.tasks.state_dict()
    kept = {name for name, weight in before.items() if torch.equal(weight, after[name])}
    last = 2 * len(CONFIG.mlp) - 2
    assert kept == {
        f"{layer}.{kind}"
        for task in range(3)
        for layer in (f"hidden.{task}.{last}", f"logits.{task}")
        for kind in ("weight", "bias")
        if layer.startswith("hidden") or kind == "weight"
    }
