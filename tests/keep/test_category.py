"""The category-degenerated student: of an item it sees the category only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from keep.category import CategoryStudent
from keep.config import PretrainConfig
from keep.din import Teacher
from keep.features import UNKNOWN, Batch
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


def test_a_block_s_logits_are_those_of_its_pairs_and_unknown_users_see_no_category() -> None:
    torch.manual_seed(0)
    student = CategoryStudent(SIZES, CONFIG)
    user = torch.tensor([3, UNKNOWN])
    items = torch.tensor([[5, 2, 3], [6, 3, 4], [7, 2, 3]])
    found = student.block_logits(user, BEHAVIOURS, items)
    for place, categories in enumerate(([3, 4, 3], [UNKNOWN] * 3)):
        shared = student.shared(
            user[place].expand(3),
            BEHAVIOURS[place].expand(3, -1),
            torch.tensor(categories).unsqueeze(1),
        )
        expected = torch.stack([student.tasks(t, shared.squeeze(1)) for t in range(3)], dim=-1)
        torch.testing.assert_close(found[place], expected)


def test_it_starts_as_a_teacher_to_whom_all_items_and_shops_are_alike() -> None:
    torch.manual_seed(0)
    teacher, student = Teacher(SIZES, CONFIG), CategoryStudent(SIZES, CONFIG)
    for weight in teacher.parameters():
        torch.nn.init.normal_(weight)
    student.start_from(teacher)
    items = torch.tensor([[5, 2, 3], [6, 3, 4], [7, 2, 3]])
    assert not torch.allclose(
        teacher.block_logits(USER, BEHAVIOURS, items), student.block_logits(USER, BEHAVIOURS, items)
    )
    for table in (teacher.features.item, teacher.features.shop):
        table.weight.data[2:] = table.weight[2:].mean(dim=0)
    behaviours = torch.zeros_like(BEHAVIOURS)
    torch.testing.assert_close(
        teacher.block_logits(USER, behaviours, items), student.block_logits(USER, behaviours, items)
    )


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


def test_layers_narrower_than_the_teacher_s_stay() -> None:
    torch.manual_seed(0)
    teacher, student = (
        Teacher(SIZES, CONFIG),
        CategoryStudent(SIZES, replace(CONFIG, category_width=3)),
    )
    before = {name: weight.clone() for name, weight in student.tasks.state_dict().items()}
    student.start_from(teacher)
    after = student.tasks.state_dict()
    assert after["hidden.0.2.weight"].equal(before["hidden.0.2.weight"])
    assert not after["hidden.0.0.weight"].equal(before["hidden.0.0.weight"])
