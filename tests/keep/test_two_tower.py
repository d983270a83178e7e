"""The two-tower student: its logits are what its stored vectors give."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from keep.config import PretrainConfig
from keep.features import Batch
from keep.layers import TableSizes
from keep.two_tower import TwoTower
from tests.keep.tiny import CONFIG

SIZES = TableSizes(users=9, items=8, shops=4, categories=5)
USER = torch.tensor([3, 4])
BEHAVIOURS = torch.tensor([[0, 2, 3], [0, 0, 0]])
ITEMS = torch.tensor([[5, 2, 3], [6, 3, 4]])


def test_vectors_are_the_tasks_side_by_side_192_wide_by_default() -> None:
    student = TwoTower(SIZES, PretrainConfig())
    assert student.user_knowledge(USER, BEHAVIOURS).shape == (2, 192)
    assert student.item_knowledge(ITEMS).shape == (2, 192)
    assert PretrainConfig().dim == 192


def test_a_task_s_logit_is_the_product_of_its_vectors_plus_a_bias() -> None:
    torch.manual_seed(0)
    student = TwoTower(SIZES, CONFIG)
    torch.nn.init.normal_(student.bias)
    line = torch.arange(2)
    scored = ((line, torch.zeros_like(line)),) * 3
    batch = Batch(USER, BEHAVIOURS, ITEMS.unsqueeze(1), scored, (), (), line.numpy())
    k_u, k_i = student.user_knowledge(USER, BEHAVIOURS), student.item_knowledge(ITEMS)
    width = CONFIG.tower[-1]
    for task, logits in enumerate(student(batch)):
        part = slice(task * width, (task + 1) * width)
        expected = (k_u[:, part] * k_i[:, part]).sum(dim=-1) + student.bias[task]
        torch.testing.assert_close(logits, expected)


def test_shared_towers_store_one_vector_that_each_task_weighs() -> None:
    torch.manual_seed(0)
    student = TwoTower(SIZES, replace(CONFIG, towers="shared"))
    torch.nn.init.normal_(student.task_weights)
    line = torch.arange(2)
    scored = ((line, torch.zeros_like(line)),) * 3
    batch = Batch(USER, BEHAVIOURS, ITEMS.unsqueeze(1), scored, (), (), line.numpy())
    k_u, k_i = student.user_knowledge(USER, BEHAVIOURS), student.item_knowledge(ITEMS)
    assert k_u.shape == k_i.shape == (2, CONFIG.tower[-1])
    for task, logits in enumerate(student(batch)):
        expected = (k_u * k_i * student.task_weights[task]).sum(dim=-1) + student.bias[task]
        torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("towers", ["task", "shared"])
def test_a_block_s_logits_are_those_of_its_pairs(towers: str) -> None:
    torch.manual_seed(0)
    student = TwoTower(SIZES, replace(CONFIG, towers=towers))
    for weight in student.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    found = student.block_logits(USER, BEHAVIOURS, ITEMS)
    line = torch.tensor([0, 0, 1, 1])
    scored = ((torch.arange(4), torch.zeros_like(line)),) * 3
    candidates = ITEMS.repeat(2, 1).unsqueeze(1)
    batch = Batch(USER[line], BEHAVIOURS[line], candidates, scored, (), (), line.numpy())
    expected = torch.stack(student(batch), dim=-1).view(2, 2, 3)
    torch.testing.assert_close(found, expected)
