"""Base: a click model like CAN, with target attention and a co-action unit; no user id."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from gkc.arrays import F32, I64
from keep.data import Data, Samples
from keep.layers import (
    ItemFeatures,
    TableSizes,
    TargetAttention,
    behaviour_mask,
    embedding,
    mlp,
)
from keep.losses import point_loss
from keep.models import set_item_tables
from keep.systems.system import (
    Lesson,
    Step,
    System,
    Training,
    every,
    fit,
    inputs,
    labels,
    one_pass,
    score,
    seeded,
)


@dataclass(frozen=True, kw_only=True)
class Options(Training):
    """How Base is built and trained."""

    feature_dim: int = 16
    """Width of each embedding."""
    embedding_std: float = 0.01
    """Standard deviation of fresh embeddings."""
    attention_width: int = 16
    """Hidden units of the attention unit."""
    co_action_feed: int = 8
    """Width of a behaviour's embedding that is fed through the co-action unit."""
    co_action_width: int = 4
    """Width of the co-action unit's two layers."""
    hidden: tuple[int, ...] = (200, 80)
    """Hidden layers of the MLP."""


@dataclass(frozen=True, kw_only=True)
class SuperDomainOptions(Options):
    """How a system is built and trained that learns from all scenes."""

    batch_size: int = 128
    """Larger than Base's own: a day of all scenes has many times the sub-domain's rows."""


class CoActionUnit(nn.Module):
    """A micro-MLP whose weights are the target's own, run over each behaviour and summed.

    The target's row of the induction table is cut into the weights and biases of two layers; the
    behaviours' rows of the feed table go through them. So a pair of ids meets in parameters of
    its own, apart from the embeddings that the rest of the model shares.

    References
    ----------
    KEEP (CIKM'22), section 6.2 (implementation details); Co-Action Network, as cited there [1].
    """

    def __init__(self, rows: int, feed: int, width: int) -> None:
        super().__init__()
        self.widths = (feed, width, width)
        self.feed = embedding(rows, feed, feed**-0.5)
        weights = feed * width + width + width * width + width
        self.induction = embedding(rows, weights, 0.1)

    def forward(self, target: Tensor, behaviours: Tensor, mask: Tensor) -> Tensor:
        """Let each target act on the behaviours.

        Parameters
        ----------
        target : Tensor, shape (B,), int64
            Rows of the targets.
        behaviours : Tensor, shape (B, T), int64
            Rows of the behaviours.
        mask : Tensor, shape (B, T), float32
            1 where there is a behaviour.

        Returns
        -------
        Tensor, shape (B, 2 * width), float32
            Both layers' outputs, averaged over the behaviours.
        """
        feed, first, second = self.widths
        sizes = (feed * first, first, first * second, second)
        w1, b1, w2, b2 = self.induction(target).split(sizes, dim=-1)
        fed = self.feed(behaviours)  # (B, T, feed)
        h1 = torch.tanh(torch.baddbmm(b1.unsqueeze(1), fed, w1.view(-1, feed, first)))
        h2 = torch.tanh(torch.baddbmm(b2.unsqueeze(1), h1, w2.view(-1, first, second)))
        share = mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0)  # (B, T)
        return torch.bmm(share.unsqueeze(1), torch.cat([h1, h2], dim=-1)).squeeze(1)


class Base(nn.Module):
    """Embeddings, target attention and co-action over the behaviours, and an MLP.

    Impressions come as items (B, 3), int64, rows of item, shop and category, and behaviours
    (B, T), int64, item rows, 0 for padding.

    References
    ----------
    KEEP (CIKM'22), section 3.1, figure 3 (c) and section 6.2.
    """

    def __init__(self, sizes: TableSizes, options: Options) -> None:
        super().__init__()
        self.features = ItemFeatures(sizes, options.feature_dim, options.embedding_std)
        width = 3 * options.feature_dim
        self.attention = TargetAttention(width, width, options.attention_width)
        feed, inner = options.co_action_feed, options.co_action_width
        self.item_action = CoActionUnit(sizes.items, feed, inner)
        self.category_action = CoActionUnit(sizes.categories, feed, inner)
        self.interaction_width = 2 * width + 2 * 2 * inner
        self.mlp = mlp((self.interaction_width, *options.hidden, 1))

    def hidden_layer(self, number: int) -> nn.Linear:
        """Find a hidden layer of the MLP, from 1; what it puts out is a pre-activation."""
        layer = self.mlp[2 * number - 2]
        assert isinstance(layer, nn.Linear)
        return layer

    def activation(self, number: int) -> nn.Module:
        """Find the ReLU behind a hidden layer."""
        return self.mlp[2 * number - 1]

    def keys(self, behaviours: Tensor) -> Tensor:
        """Embed behaviours for the attention; shape (B, T, 3 * feature_dim)."""
        return self.features.behaviours(behaviours)

    def interaction(self, items: Tensor, behaviours: Tensor) -> Tensor:
        """Let the candidate's features meet the behaviours: all that the MLP sees.

        Returns
        -------
        Tensor, shape (B, interaction_width), float32
            Candidate, attended behaviours and both co-actions side by side.
        """
        mask = behaviour_mask(behaviours)
        candidates = self.features(items).unsqueeze(1)  # (B, 1, 48)
        attended = self.attention(candidates, self.keys(behaviours), mask)
        categories = self.features.item_category[behaviours]
        parts = [
            candidates.squeeze(1),
            attended.squeeze(1),
            self.item_action(items[:, 0], behaviours, mask),
            self.category_action(items[:, 2], categories, mask),
        ]
        return torch.cat(parts, dim=-1)

    def forward(self, items: Tensor, behaviours: Tensor) -> Tensor:
        """Score impressions: (B,) float32 logits."""
        logits: Tensor = self.mlp(self.interaction(items, behaviours))
        return logits.squeeze(-1)

    def logits(self, samples: Samples, positions: I64) -> Tensor:
        """Score impressions of a day, at (B,) positions: (B,) float32 logits."""
        logits: Tensor = self(*inputs(samples, positions))
        return logits


B = TypeVar("B", bound=Base)


class BaseRanker(Generic[B]):
    """A Base, or a system that ranks as it does."""

    def __init__(self, model: B) -> None:
        self.model = model

    def parameters(self) -> Iterable[nn.Parameter]:
        """List what is trained."""
        return self.model.parameters()

    def score(self, samples: Samples) -> F32:
        """Score n impressions of a day: (n,) logits."""
        self.model.eval()
        return score(samples, self.model.logits)


def fitted(model: B, data: Data) -> B:
    """Give a fresh model the data's shops and categories of items."""
    set_item_tables(model.features, data.features)
    return model


def make(data: Data, options: Options, seed: int) -> Base:
    """Make a fresh Base whose tables fit the data."""
    with seeded(seed):
        return fitted(Base(data.sizes, options), data)


def click_loss(model: Base, task: int) -> Step:
    """Measure a model's logits by cross-entropy with a task's labels."""

    def loss(samples: Samples, positions: I64) -> Tensor:
        return point_loss(model.logits(samples, positions), labels(samples, positions, task))

    return loss


def go_on(
    start: Base, data: Data, days: Iterable[int], training: Training, seed: int, task: int = 0
) -> BaseRanker[Base]:
    """Train a copy of a trained Base on further days of the sub-domain, by a fresh Adam."""
    model = copy.deepcopy(start).train()
    samples = (data.sub_domain(day).of_task(task) for day in days)
    fit(model.parameters(), samples, click_loss(model, task), training, seed)
    return BaseRanker(model)


def build(lesson: Lesson[Options, object]) -> tuple[BaseRanker[Base], Step]:
    """Make a fresh Base and its loss."""
    model = make(lesson.data, lesson.options, lesson.seed)
    return BaseRanker(model), click_loss(model, lesson.task)


BASE = System(
    options=Options,
    tried=every(
        batch_size=(64, 128), learning_rate=(0.001, 0.003), embedding_std=(0.01, 0.05, 0.2)
    ),
    learn=one_pass(build, Lesson.sub_domain),
)
