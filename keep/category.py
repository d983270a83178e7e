"""The degeneration: a student that keeps the interaction but knows of an item only its category."""

from __future__ import annotations

import torch
from torch import Tensor

from keep.config import TASKS, PretrainConfig
from keep.din import Din
from keep.features import Batch
from keep.layers import TableSizes


class CategoryStudent(Din):
    """The teacher with the category's embedding in the item's place; behaviours stay whole.

    References
    ----------
    KEEP (CIKM'22), section 5.2.2.
    """

    def __init__(self, sizes: TableSizes, config: PretrainConfig) -> None:
        super().__init__(sizes, config, config.feature_dim, config.category_mlp)
        self.knows_logits = config.category_width == 1

    def shared(self, user: Tensor, behaviours: Tensor, categories: Tensor) -> Tensor:
        """Compress all features into one vector for each of (B, G) candidate categories.

        Returns
        -------
        Tensor, shape (B, G, user_dim + feature_dim + item_dim), float32
            User, category and attended behaviours side by side.
        """
        return self.around(user, behaviours, self.features.category(categories))

    def forward(self, batch: Batch) -> list[Tensor]:
        """Score what the losses need: per task the (R,) logits of ``batch.scored``."""
        return self.scores(self.shared(batch.user, batch.behaviours, batch.items[..., 2]), batch)

    def knowledge(self, user: Tensor, behaviours: Tensor, category: Tensor) -> Tensor:
        """Compute K_uc of equation 6, (B, D_c): the tasks' layers before the logits, or these."""
        shared = self.shared(user, behaviours, category.unsqueeze(1)).squeeze(1)
        if self.knows_logits:
            logits = [self.tasks(task, shared) for task in range(len(TASKS))]
            return torch.stack(logits, dim=-1)
        return torch.cat([self.tasks.knowledge(task, shared) for task in range(len(TASKS))], dim=-1)
