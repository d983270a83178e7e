"""The teacher: KEEP's knowledge extraction module, a DIN with a private MLP per task."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keep.config import TASKS, PretrainConfig
from keep.features import Batch
from keep.layers import (
    ItemFeatures,
    TableSizes,
    TargetAttention,
    behaviour_mask,
    embedding,
    mlp,
)


class TaskMlps(nn.Module):
    """One private MLP per task over shared (R, width) concatenations; two logits each.

    A task is its position in ``TASKS``.

    References
    ----------
    KEEP (CIKM'22), section 4.2.2 and figure 4.
    """

    def __init__(self, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(mlp((width, *hidden)) for _ in TASKS)
        self.logits = nn.ModuleList(nn.Linear(hidden[-1], 2) for _ in TASKS)

    def knowledge(self, task: int, features: Tensor) -> Tensor:
        """Compute the layer before the logits, (R, hidden[-1]): K_ui, or K_uc, of the task."""
        return torch.relu(self.hidden[task](features))

    def logit(self, task: int, knowledge: Tensor) -> Tensor:
        """Score rows of a task's knowledge, (R, hidden[-1]): (R,), s = z1 - z0."""
        z: Tensor = self.logits[task](knowledge)  # (R, 2)
        return z[:, 1] - z[:, 0]

    def forward(self, task: int, features: Tensor) -> Tensor:
        """Score rows for one task: (R,) logits."""
        return self.logit(task, self.knowledge(task, features))


class Din(nn.Module):
    """DIN over user id, candidate and behaviours, three tasks.

    Users come as (B,) rows, behaviours as (B, T) item rows, 0 for padding.
    """

    def __init__(
        self,
        sizes: TableSizes,
        config: PretrainConfig,
        candidate_dim: int,
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.user = embedding(sizes.users, config.user_dim, config.embedding_std)
        self.features = ItemFeatures(sizes, config.feature_dim, config.embedding_std)
        self.attention = TargetAttention(candidate_dim, config.item_dim, config.attention_width)
        self.tasks = TaskMlps(config.user_dim + candidate_dim + config.item_dim, hidden)

    def around(self, user: Tensor, behaviours: Tensor, candidates: Tensor) -> Tensor:
        """Put all features beside each of (B, G, candidate_dim) embedded candidates.

        Returns
        -------
        Tensor, shape (B, G, user_dim + candidate_dim + item_dim), float32
            User, candidate and attended behaviours side by side.
        """
        keys = self.features.behaviours(behaviours)  # (B, T, 48)
        attended = self.attention(candidates, keys, behaviour_mask(behaviours))
        users = self.user(user).unsqueeze(1).expand(-1, candidates.shape[1], -1)
        return torch.cat([users, candidates, attended], dim=-1)

    def scores(self, shared: Tensor, batch: Batch) -> list[Tensor]:
        """Score what the losses need: per task the (R,) logits of ``batch.scored``."""
        return [
            self.tasks(task, shared[line, candidate])
            for task, (line, candidate) in enumerate(batch.scored)
        ]

    def all_knowledge(self, shared: Tensor) -> Tensor:
        """Compute each of (B, G) candidates' layers before the logits: (B, G, tasks * hidden)."""
        rows = shared.flatten(0, 1)
        layers = [self.tasks.knowledge(task, rows) for task in range(len(TASKS))]
        return torch.cat(layers, dim=-1).view(*shared.shape[:2], -1)

    def all_scores(self, shared: Tensor) -> Tensor:
        """Score each of (B, G) candidates for each task, (B, G, tasks), from ``shared``."""
        rows = shared.flatten(0, 1)
        scores = torch.stack([self.tasks(task, rows) for task in range(len(TASKS))], dim=-1)
        return scores.view(*shared.shape[:2], len(TASKS))


class Teacher(Din):
    """DIN whose candidate is an item: its id, shop and category.

    References
    ----------
    KEEP (CIKM'22), section 4.2.
    """

    def __init__(self, sizes: TableSizes, config: PretrainConfig) -> None:
        super().__init__(sizes, config, config.item_dim, config.mlp)

    def shared(self, user: Tensor, behaviours: Tensor, items: Tensor) -> Tensor:
        """Compress all features into one vector per candidate.

        Parameters
        ----------
        items : Tensor, shape (B, G, 3), int64
            Item, shop and category row of G candidates.

        Returns
        -------
        Tensor, shape (B, G, user_dim + 2 * item_dim), float32
            User, candidate and attended behaviours side by side.
        """
        return self.around(user, behaviours, self.features(items))

    def forward(self, batch: Batch) -> list[Tensor]:
        """Score what the losses need: per task the (R,) logits of ``batch.scored``."""
        return self.scores(self.shared(batch.user, batch.behaviours, batch.items), batch)

    def block_logits(self, user: Tensor, behaviours: Tensor, items: Tensor) -> Tensor:
        """Score every one of B users for every one of G items, (G, 3): (B, G, tasks)."""
        return self.all_scores(self.shared(user, behaviours, items.expand(len(user), -1, -1)))

    def knowledge(self, user: Tensor, behaviours: Tensor, items: Tensor) -> Tensor:
        """Read the extracted knowledge of users and items, (B, 3) item, shop and category rows.

        Returns
        -------
        Tensor, shape (B, 48 + 48 + 3 * 64), float32
            [K_u, K_i, K_ui click, K_ui conversion, K_ui cart].

        References
        ----------
        KEEP (CIKM'22), equation 4.
        """
        shared = self.shared(user, behaviours, items.unsqueeze(1)).squeeze(1)
        parts = [self.user(user), self.features(items)]
        parts += [self.tasks.knowledge(task, shared) for task in range(len(TASKS))]
        return torch.cat(parts, dim=-1)
