"""Rows as tensors of torch, which is imported once somebody asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gkc.knowledge import Vectors

if TYPE_CHECKING:
    import torch


def shared_tensor(rows: Vectors) -> torch.Tensor:
    """Return a tensor that shares the memory of a writable array."""
    import torch

    return torch.from_numpy(rows)
