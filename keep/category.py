"""The degeneration: a student that keeps the interaction but knows of an item only its category."""

from __future__ import annotations

import torch
from torch import Tensor

from keep.config import TASKS, PretrainConfig
from keep.din import Din, Teacher
from keep.features import UNKNOWN, Batch
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

    def block_logits(self, user: Tensor, behaviours: Tensor, items: Tensor) -> Tensor:
        """Score every one of B users for every one of G items, (G, 3): (B, G, tasks).

        It runs once for each user and category. An unknown user's categories are unknown, too:
        what is served of a pair that is not there is that of both unknown.
        """
        categories, of_item = torch.unique(items[:, 2], return_inverse=True)
        unknown = (user == UNKNOWN).unsqueeze(1)
        categories = torch.where(unknown, UNKNOWN, categories)  # (B, C)
        return self.all_scores(self.shared(user, behaviours, categories))[:, of_item]

    @torch.no_grad()
    def start_from(self, teacher: Teacher) -> None:
        """Take over the teacher's weights, and the means of its items and shops in their place.

        It then scores a category as the teacher scores an item of it that is like the mean of all.
        Layers of another width than the teacher's stay as they are.
        """
        width = self.features.category.embedding_dim
        tables = (teacher.features.item.weight, teacher.features.shop.weight)
        mean = torch.cat([table[UNKNOWN + 1 :].mean(dim=0) for table in tables])  # (2 * width,)
        attention, tasks = teacher.attention.state_dict(), teacher.tasks.state_dict()
        attention["project.weight"] = torch.eye(3 * width, width).roll(2 * width, dims=0)
        attention["project.bias"] = torch.cat([mean, torch.zeros(width)])
        first = self.user.embedding_dim
        category = first + 2 * width  # behind the item and the shop
        for task in range(len(TASKS)):
            weight, bias = f"hidden.{task}.0.weight", f"hidden.{task}.0.bias"
            columns = tasks[weight]
            tasks[bias] = tasks[bias] + columns[:, first:category] @ mean
            tasks[weight] = torch.cat([columns[:, :first], columns[:, category:]], dim=1)
        self.user.load_state_dict(teacher.user.state_dict())
        self.features.load_state_dict(teacher.features.state_dict())
        self.attention.load_state_dict(attention)
        own = self.tasks.state_dict()
        fitting = {
            name: weight for name, weight in tasks.items() if weight.shape == own[name].shape
        }
        self.tasks.load_state_dict(own | fitting)

    def knowledge(self, user: Tensor, behaviours: Tensor, category: Tensor) -> Tensor:
        """Compute K_uc of equation 6, (B, D_c): the tasks' layers before the logits, or these."""
        shared = self.shared(user, behaviours, category.unsqueeze(1)).squeeze(1)
        if self.knows_logits:
            logits = [self.tasks(task, shared) for task in range(len(TASKS))]
            return torch.stack(logits, dim=-1)
        return torch.cat([self.tasks.knowledge(task, shared) for task in range(len(TASKS))], dim=-1)
