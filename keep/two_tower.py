"""The decomposition: a two-tower student whose vectors can be stored per user and per item."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keep.config import TASKS, PretrainConfig
from keep.features import Batch
from keep.layers import ItemFeatures, TableSizes, behaviour_mask, embedding, mean_pool, mlp


class TwoTower(nn.Module):
    """Per task a user tower and an item tower over shared embeddings; the logit is their product.

    With ``config.towers == "shared"`` all tasks share one pair of towers, and each task weighs
    the numbers of their product.

    Notes
    -----
    The paper stores K_u and K_i whose element-wise product stands for K_ui, and extracts K_ui for
    three tasks; we read this as the three tasks' vectors side by side.

    References
    ----------
    KEEP (CIKM'22), section 5.2.1 and equation 6.
    """

    def __init__(self, sizes: TableSizes, config: PretrainConfig) -> None:
        super().__init__()
        self.user = embedding(sizes.users, config.user_dim, config.embedding_std)
        self.features = ItemFeatures(sizes, config.feature_dim, config.embedding_std)
        user_width = config.user_dim + config.item_dim
        towers = range(len(TASKS) if config.towers == "task" else 1)
        self.user_towers = nn.ModuleList(mlp((user_width, *config.tower)) for _ in towers)
        self.item_towers = nn.ModuleList(mlp((config.item_dim, *config.tower)) for _ in towers)
        self.width = config.tower[-1]
        self.bias = nn.Parameter(torch.zeros(len(TASKS)))
        if config.towers == "shared":
            self.task_weights = nn.Parameter(torch.ones(len(TASKS), config.tower[-1]))

    def user_features(self, user: Tensor, behaviours: Tensor) -> Tensor:
        """Put the user's embedding beside the mean of the behaviours: (B, user_dim + item_dim)."""
        pooled = mean_pool(self.features.behaviours(behaviours), behaviour_mask(behaviours))
        return torch.cat([self.user(user), pooled], dim=-1)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Score what the losses need: per task the (R,) logits of ``batch.scored``."""
        users = self.user_features(batch.user, batch.behaviours)  # (B, 96)
        items = self.features(batch.items)  # (B, 4, 48)
        logits = []
        for task, (line, candidate) in enumerate(batch.scored):
            tower = task % len(self.user_towers)  # 0 where the tasks share one
            k_u = self.user_towers[tower](users)[line]  # (R, 64)
            k_i = self.item_towers[tower](items[line, candidate])  # (R, 64)
            logits.append(self._product(task, k_u * k_i) + self.bias[task])
        return logits

    def block_logits(self, user: Tensor, behaviours: Tensor, items: Tensor) -> Tensor:
        """Score every one of B users for every one of G items, (G, 3): (B, G, tasks).

        Each tower runs once a user and once an item.
        """
        towers = len(self.user_towers)
        k_u = self.user_knowledge(user, behaviours).view(len(user), towers, -1)
        k_i = self.item_knowledge(items).view(len(items), towers, -1)
        if towers == 1:
            k_u, k_i = k_u * self.task_weights, k_i.expand(-1, len(TASKS), -1)
        return torch.einsum("btd,gtd->bgt", k_u, k_i) + self.bias

    def _product(self, task: int, product: Tensor) -> Tensor:
        """Sum the numbers of K_u * K_i, shape (R, 64), as the task weighs them; shape (R,)."""
        if len(self.user_towers) == 1:
            return product @ self.task_weights[task]
        return product.sum(dim=-1)

    @property
    def logit_weights(self) -> Tensor:
        """How each task weighs K_u * K_i, (T, D): by 1 and 0 where towers are its own."""
        if len(self.user_towers) == 1:
            return self.task_weights.detach()
        return torch.eye(len(TASKS)).repeat_interleave(self.width, dim=1)

    def user_knowledge(self, user: Tensor, behaviours: Tensor) -> Tensor:
        """Compute K_u of equation 6, (B, D): the towers' user vectors side by side."""
        features = self.user_features(user, behaviours)
        return torch.cat([tower(features) for tower in self.user_towers], dim=-1)

    def item_knowledge(self, items: Tensor) -> Tensor:
        """Compute K_i of equation 6, (B, D), from (B, 3) rows of item, shop and category."""
        features = self.features(items)
        return torch.cat([tower(features) for tower in self.item_towers], dim=-1)
