"""Base: a click model like CAN, with target attention and a co-action unit; no user id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor, nn

from gkc.arrays import F32
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
from keep.systems.training import Ints, Training, fit, inputs, labels, score, seeded


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
    """Hidden layers of the MLP; knowledge is added to the first one's pre-activation."""


def grid(best: Options) -> tuple[Options, ...]:
    """List what is tried on the tuning day.

    Parameters
    ----------
    best : Options
        Where the search starts.

    Returns
    -------
    tuple of Options
        Twelve.
    """
    return tuple(
        replace(best, batch_size=batch_size, learning_rate=rate, embedding_std=std)
        for batch_size, rate, std in product((64, 128), (0.001, 0.003), (0.01, 0.05, 0.2))
    )


class CoActionUnit(nn.Module):
    """A micro-MLP whose weights are the target's own, run over each behaviour and summed.

    The target's row of the induction table is cut into the weights and biases of two layers; the
    behaviours' rows of the feed table go through them. So a pair of ids meets in parameters of
    its own, apart from the embeddings that the rest of the model shares.

    Parameters
    ----------
    rows : int
        Rows of both tables.
    feed : int
        Width of what is fed.
    width : int
        Width of both layers.

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

    Parameters
    ----------
    sizes : TableSizes
        Rows of the embedding tables.
    options : Options
        Widths.

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

    @property
    def first_layer(self) -> nn.Module:
        """The layer whose pre-activation h_m knowledge is added to."""
        return self.mlp[0]

    def keys(self, behaviours: Tensor) -> Tensor:
        """Embed behaviours, (B, T) item rows, for the attention; shape (B, T, 3 * feature_dim)."""
        return self.features.behaviours(behaviours)

    def interaction(self, items: Tensor, behaviours: Tensor) -> Tensor:
        """Let the candidate's features meet the behaviours: all that the MLP sees.

        Parameters
        ----------
        items : Tensor, shape (B, 3), int64
            Item, shop and category rows.
        behaviours : Tensor, shape (B, T), int64
            Item rows, 0 for padding.

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
        """Score impressions.

        Parameters
        ----------
        items : Tensor, shape (B, 3), int64
            Item, shop and category rows.
        behaviours : Tensor, shape (B, T), int64
            Item rows, 0 for padding.

        Returns
        -------
        Tensor, shape (B,), float32
            Logits.
        """
        logits: Tensor = self.mlp(self.interaction(items, behaviours))
        return logits.squeeze(-1)


class BaseRanker:
    """A trained Base.

    Parameters
    ----------
    model : Base
        Trained.
    """

    def __init__(self, model: Base) -> None:
        self.model = model

    def score(self, samples: Samples) -> F32:
        """Score impressions.

        Parameters
        ----------
        samples : Samples
            n impressions of a day.

        Returns
        -------
        ndarray, shape (n,), float32
            Logits.
        """
        self.model.eval()
        return score(samples, lambda part, positions: self.model(*inputs(part, positions)))


def make(data: Data, options: Options, seed: int) -> Base:
    """Make a fresh Base whose tables fit the data.

    Parameters
    ----------
    data : Data
        Vocabularies, and the items' shops and categories.
    options : Options
        Widths.
    seed : int
        Of the initial weights.

    Returns
    -------
    Base
        Untrained.
    """
    with seeded(seed):
        model = Base(data.sizes, options)
    set_item_tables(model.features, data.features)
    return model


def train(
    data: Data, days: Sequence[int], options: Options, seed: int, task: int = 0
) -> BaseRanker:
    """Train Base on the sub-domain.

    Parameters
    ----------
    data : Data
        The log.
    days : sequence of int
        Training days, ascending.
    options : Options
        Settings.
    seed : int
        Of initial weights and order.
    task : int
        Position in ``TASKS``: what is predicted.

    Returns
    -------
    BaseRanker
        The trained model.
    """
    model = make(data, options, seed)
    fit_base(model, (data.sub_domain(day) for day in days), options, seed, task)
    return BaseRanker(model)


def fit_base(
    model: Base, days: Iterable[Samples], options: Options, seed: int, task: int = 0
) -> int:
    """Train a Base in place by cross-entropy, one pass.

    Parameters
    ----------
    model : Base
        Fresh, or trained before.
    days : iterable of Samples
        Impressions of the training days, ascending, of any domain.
    options : Options
        Batch size and learning rate.
    seed : int
        Of the order.
    task : int
        Position in ``TASKS``.

    Returns
    -------
    int
        Steps taken.
    """

    def loss(samples: Samples, positions: Ints) -> Tensor:
        logits = model(*inputs(samples, positions))
        return point_loss(logits, labels(samples, positions, task))

    model.train()
    of_task = (samples.of_task(task) for samples in days)
    return fit(model.parameters(), of_task, loss, options, seed)
