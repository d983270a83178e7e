"""The degeneration: a student that keeps the interaction but knows of an item only its category."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keep.config import TASKS, PretrainConfig
from keep.din import TaskMlps
from keep.features import Batch
from keep.layers import ItemFeatures, TableSizes, TargetAttention, behaviour_mask, embedding


class CategoryStudent(nn.Module):
    """The teacher with the category's embedding in the item's place; behaviours stay whole.

    Users come as (B,) rows, behaviours as (B, T) item rows, 0 for padding.

    References
    ----------
    KEEP (CIKM'22), section 5.2.2.
    """

    def __init__(self, sizes: TableSizes, config: PretrainConfig) -> None:
        super().__init__()
        self.user = embedding(sizes.users, config.user_dim, config.embedding_std)
        self.features = ItemFeatures(sizes, config.feature_dim, config.embedding_std)
        self.attention = TargetAttention(
            config.feature_dim, config.item_dim, config.attention_width
        )
        self.tasks = TaskMlps(config.user_dim + config.feature_dim + config.item_dim, config.mlp)

    def shared(self, user: Tensor, behaviours: Tensor, categories: Tensor) -> Tensor:
        """Compress all features into one vector for each of (B, G) candidate categories.

        Returns
        -------
        Tensor, shape (B, G, user_dim + feature_dim + item_dim), float32
            User, category and attended behaviours side by side.
        """
        candidates = self.features.category(categories)  # (B, G, 16)
        keys = self.features.behaviours(behaviours)  # (B, T, 48)
        attended = self.attention(candidates, keys, behaviour_mask(behaviours))
        users = self.user(user).unsqueeze(1).expand(-1, categories.shape[1], -1)
        return torch.cat([users, candidates, attended], dim=-1)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Score what the losses need: per task the (R,) logits of ``batch.scored``."""
        shared = self.shared(batch.user, batch.behaviours, batch.items[..., 2])
        return [
            self.tasks(task, shared[line, candidate])
            for task, (line, candidate) in enumerate(batch.scored)
        ]

    def knowledge(self, user: Tensor, behaviours: Tensor, category: Tensor) -> Tensor:
        """Compute K_uc of equation 6, (B, D_c): the tasks' layers before the logits."""
        shared = self.shared(user, behaviours, category.unsqueeze(1)).squeeze(1)
        return torch.cat([self.tasks.knowledge(task, shared) for task in range(len(TASKS))], dim=-1)
