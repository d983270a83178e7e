"""Base with the user's id: a control, since KEEP's knowledge holds the embedding of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gkc.arrays import I64
from keep.data import Samples
from keep.layers import TableSizes, embedding, mlp
from keep.systems import base
from keep.systems.base import BASE, Base, BaseRanker, click_loss, fitted
from keep.systems.system import Lesson, Step, System, inputs, one_pass


@dataclass(frozen=True, kw_only=True)
class Options(base.Options):
    """How it is built and trained."""

    user_dim: int = 48
    """Width of a user id's embedding, as in the teacher."""


class BaseWithUser(Base):
    """Base whose MLP also sees an embedding of the user's id."""

    def __init__(self, sizes: TableSizes, options: Options) -> None:
        super().__init__(sizes, options)
        self.user = embedding(sizes.users, options.user_dim, options.embedding_std)
        self.mlp = mlp((self.interaction_width + options.user_dim, *options.hidden, 1))

    def logits(self, samples: Samples, positions: I64) -> Tensor:
        """Score impressions of a day, at (B,) positions: (B,) float32 logits."""
        user = self.user(torch.from_numpy(samples.rows.user[positions]))
        seen = self.interaction(*inputs(samples, positions))
        logits: Tensor = self.mlp(torch.cat([seen, user], dim=-1))
        return logits.squeeze(-1)


def build(lesson: Lesson[Options, None]) -> tuple[BaseRanker[BaseWithUser], Step]:
    """Make a fresh one and its loss."""
    model = fitted(BaseWithUser(lesson.data.sizes, lesson.options), lesson.data)
    return BaseRanker(model), click_loss(model, lesson.task)


BASE_WITH_USER = System(options=Options, tried=BASE.tried, learn=one_pass(build, Lesson.sub_domain))
