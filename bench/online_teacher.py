"""Computing K(u, i) online from the teacher in onnxruntime: what cached knowledge replaces."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.timing import median_seconds
from keep.config import TASKS, PretrainConfig
from keep.din import Teacher
from keep.layers import TableSizes
from keep.to_onnx import OPSET

SIZES = TableSizes(users=100_000, items=1_000_000, shops=10_000, categories=1_000)
"""Rows of the tables; how many there are hardly matters for the time of one request."""
_SEED = 1


class PairKnowledge(nn.Module):
    """K_ui of every task for one user and many candidates (equation 4), the user's part once."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, user: Tensor, behaviours: Tensor, items: Tensor) -> Tensor:
        """Compute from (1,) user, (1, T) behaviours, (1, B, 3) items; shape (B, 3 * 64)."""
        shared = self.teacher.shared(user, behaviours, items).squeeze(0)
        parts = [self.teacher.tasks.knowledge(task, shared) for task in range(len(TASKS))]
        return torch.cat(parts, dim=-1)


def online_teacher(file: Path, threads: int) -> onnxruntime.InferenceSession:
    """Write a teacher of the default widths, with random weights, as ONNX, and open it."""
    torch.manual_seed(_SEED)
    config = PretrainConfig()
    model = PairKnowledge(Teacher(SIZES, config)).eval()
    example = (
        torch.ones(1, dtype=torch.int64),
        torch.ones(1, config.behaviours, dtype=torch.int64),
        torch.ones(1, 2, 3, dtype=torch.int64),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            example,
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=["user", "behaviours", "items"],
            output_names=["knowledge"],
            dynamic_axes={"items": {1: "n"}, "knowledge": {0: "n"}},
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def teacher_seconds(teacher: onnxruntime.InferenceSession, rows: int, calls: int) -> float:
    """Return the median time of inference alone for random ids, one user and so many candidates."""
    draw = np.random.default_rng(_SEED).integers

    def feeds() -> dict[str, NDArray[np.int64]]:
        columns = [draw(2, n, rows) for n in (SIZES.items, SIZES.shops, SIZES.categories)]
        return {
            "user": draw(2, SIZES.users, 1),
            "behaviours": draw(2, SIZES.items, (1, PretrainConfig().behaviours)),
            "items": np.stack(columns, axis=-1)[np.newaxis],
        }

    return median_seconds(
        lambda fed: teacher.run(["knowledge"], fed), [feeds() for _ in range(calls)]
    )
