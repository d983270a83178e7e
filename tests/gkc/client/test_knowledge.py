"""Knowledge as it is handed out: views, tensors, logits."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from gkc.client import Knowledge
from gkc.errors import ClientUsageError

PARTS = {"user": (0, 4), "item": (4, 8), "user_item": (8, 12), "user_category": (12, 14)}
TASKS = [{"name": "click", "dim": 1}, {"name": "cart", "dim": 3}]


def knowledge(
    described: dict[str, Any] | None = None, dtype: type = np.float32, n: int = 3
) -> Knowledge:
    rows: Any = np.arange(n * 14, dtype=dtype).reshape(n, 14)
    status = np.ones((n, 4), dtype=np.uint8)
    return Knowledge(rows, status, PARTS, {"v1": "g1"}, {"v1": described} if described else {})


def test_parts_are_views_by_name() -> None:
    answer = knowledge()
    assert answer["item"].tolist() == answer.rows[:, 4:8].tolist()
    assert np.shares_memory(answer["item"], answer.rows)
    assert len(answer) == 3
    assert repr(answer) == "<Knowledge of 3 rows of 14 float32: {'v1': 'g1'}>"


def test_a_part_that_was_not_asked_is_named() -> None:
    answer = Knowledge(np.ones((1, 4), np.float32), np.ones((1, 4), np.uint8), {"user": (0, 4)}, {})
    with pytest.raises(KeyError, match="'item' is no part of this answer; its parts: user"):
        answer["item"]


def test_nothing_of_it_can_be_written() -> None:
    answer = knowledge()
    for array in (answer.rows, answer.status, answer["user"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("n", [0, 3])
def test_a_tensor_shares_its_memory_without_a_warning(dtype: type, n: int) -> None:
    torch = pytest.importorskip("torch", reason="installed with TORCH=none")
    answer = knowledge(dtype=dtype, n=n)
    tensor = answer.torch()
    assert tensor.tolist() == answer.rows.tolist()
    assert tensor.dtype == (torch.float32 if dtype is np.float32 else torch.float16)
    if n:
        assert tensor.data_ptr() == answer.rows.ctypes.data


def test_it_survives_pickling() -> None:
    answer = knowledge({"tasks": TASKS})
    copy = pickle.loads(pickle.dumps(answer))
    assert copy.rows.tobytes() == answer.rows.tobytes()
    assert copy.logits.tolist() == answer.logits.tolist()
    assert not copy.rows.flags.writeable


def test_logits_are_the_sums_over_the_columns_of_each_task() -> None:
    answer = knowledge({"tasks": TASKS})
    product = answer["user_item"]
    assert answer.logits.dtype == np.float32
    assert answer.logits.tolist() == np.c_[product[:, 0], product[:, 1:].sum(axis=1)].tolist()


def test_logits_of_halves_are_computed_in_float32() -> None:
    assert knowledge({"tasks": TASKS}, np.float16).logits.dtype == np.float32


@pytest.mark.parametrize(
    "weights", [[[1, 2, 3, 4], [0, 1, 0, -1]], {"cart": [0, 1, 0, -1], "click": [1, 2, 3, 4]}]
)
def test_logits_of_one_tower_are_weighted(weights: Any) -> None:
    tasks = [{"name": "click", "dim": 4}, {"name": "cart", "dim": 4}]
    answer = knowledge({"tasks": tasks, "task_weights": weights})
    columns = np.array([[1, 2, 3, 4], [0, 1, 0, -1]], dtype=np.float32).T
    assert answer.logits.tolist() == (answer["user_item"] @ columns).tolist()


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (None, "does not describe generation g1"),
        ({"tasks": []}, "dims add up to 4, or `task_weights`"),
        ({"tasks": [{"name": "a", "dim": 3}]}, r"tells the dims \[3\]"),
        ({"tasks": TASKS, "task_weights": [[1, 2], [3, 4]]}, "do not have 4 numbers"),
        ({"tasks": TASKS, "task_weights": {"click": [1, 2, 3, 4]}}, "each of its 2 tasks"),
    ],
)
def test_logits_say_what_is_missing(described: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(ClientUsageError, match=words):
        _ = knowledge(described).logits


def test_logits_need_the_product() -> None:
    answer = Knowledge(np.ones((1, 4), np.float32), np.ones((1, 4), np.uint8), {"user": (0, 4)}, {})
    with pytest.raises(ClientUsageError, match="ask for it in parts"):
        _ = answer.logits


def test_logits_of_versions_with_other_tasks_are_refused() -> None:
    described = {"a": {"tasks": TASKS}, "b": {"tasks": TASKS[::-1]}}
    rows, status = np.ones((2, 14), np.float32), np.ones((2, 4), np.uint8)
    with pytest.raises(ClientUsageError, match="the tasks of versions a, b differ"):
        _ = Knowledge(rows, status, PARTS, {"a": "g1", "b": "g2"}, described).logits


def test_torch_is_imported_only_when_asked_for() -> None:
    code = "import sys, gkc.client.knowledge; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
