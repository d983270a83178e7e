"""Rows as tensors of torch, which is imported here alone."""

from __future__ import annotations

import torch

from gkc.knowledge import Vectors


def shared_tensor(rows: Vectors) -> torch.Tensor:
    """Return a tensor that shares the memory of a writable array."""
    return torch.from_numpy(rows)
