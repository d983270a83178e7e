"""The downstream model: click prediction in the sub-domain, with or without knowledge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from keep.features import Features, Rows
from keep.layers import (
    ItemFeatures,
    TableSizes,
    TargetAttention,
    behaviour_mask,
    mlp,
)
from keep.plugin import PlugIn

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class DownstreamConfig:
    """How the downstream model is built and trained."""

    seed: int = 1
    """Seed of initial weights and shuffling."""
    feature_dim: int = 16
    """Width of each embedding."""
    embedding_std: float = 0.01
    """Standard deviation of fresh embeddings; 0.05 and 0.2 were worse on the tuning day."""
    attention_width: int = 16
    """Hidden units of the attention unit."""
    behaviours: int = 50
    """How many of a user's latest clicks the model sees."""
    hidden: tuple[int, ...] = (200, 80)
    """Hidden layers of the MLP; knowledge is added to the first one's pre-activation."""
    plug_in_hidden: int = 32
    """Width of the plug-in network's hidden layer."""
    batch_size: int = 64
    """Small, because two days of the sub-domain must still give some 700 steps."""
    learning_rate: float = 0.001
    """Adam's learning rate."""


@dataclass(frozen=True)
class Samples:
    """Impressions of the sub-domain, ready for the downstream model."""

    item: NDArray[np.int64]
    """(n, 3) item, shop and category rows."""
    behaviours: NDArray[np.int32]
    """(n, T) item rows of the user's clicks on earlier days, 0 where there is none."""
    label: NDArray[np.float32]
    """(n,) 1 for a click."""

    def __len__(self) -> int:
        """Count the impressions."""
        return len(self.label)


class Downstream(nn.Module):
    """Target attention over the user's behaviours and an MLP; no user id.

    Parameters
    ----------
    sizes : TableSizes
        Rows of the embedding tables.
    config : DownstreamConfig
        Widths.

    References
    ----------
    KEEP (CIKM'22), section 3.1 and figure 3 (c); its base also has a co-action unit.
    """

    def __init__(self, sizes: TableSizes, config: DownstreamConfig) -> None:
        super().__init__()
        self.features = ItemFeatures(sizes, config.feature_dim, config.embedding_std)
        width = 3 * config.feature_dim
        self.attention = TargetAttention(width, width, config.attention_width)
        self.mlp = mlp((2 * width, *config.hidden, 1))

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
            Logits of a click.
        """
        candidates = self.features(items).unsqueeze(1)  # (B, 1, 48)
        keys = self.features.behaviours(behaviours)  # (B, T, 48)
        attended = self.attention(candidates, keys, behaviour_mask(behaviours))
        logits: Tensor = self.mlp(torch.cat([candidates, attended], dim=-1).squeeze(1))
        return logits.squeeze(-1)


def make_samples(rows: Rows, features: Features) -> Samples:
    """Join impressions with the behaviours known before their day.

    Parameters
    ----------
    rows : Rows
        Impressions of one day.
    features : Features
        State before that day's clicks are observed.

    Returns
    -------
    Samples
        In the same order.
    """
    label = rows.labels[:, 0].astype(np.float32)
    return Samples(rows.item, features.history[rows.user], label)


def train_downstream(
    days: list[Samples],
    model: Downstream,
    config: DownstreamConfig,
    plug_in: PlugIn | None = None,
    knowledge: list[F32] | None = None,
) -> int:
    """Train in one pass, days in order, shuffled within a day; the loss is cross-entropy.

    Parameters
    ----------
    days : list of Samples
        Training days, ascending.
    model : Downstream
        Trained in place.
    config : DownstreamConfig
        Seed, batch size and learning rate.
    plug_in : PlugIn, optional
        Attached to ``model`` already; trained with it.
    knowledge : list of ndarray, each shape (n, knowledge_width), float32, optional
        Rows of each day, where there is a plug-in.

    Returns
    -------
    int
        Steps taken.
    """
    rng = np.random.default_rng(config.seed)
    parameters = [*model.parameters(), *(plug_in.parameters() if plug_in else ())]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    model.train()
    steps = 0
    for number, day in enumerate(days):
        order = rng.permutation(len(day))
        for start in range(0, len(day), config.batch_size):
            samples = order[start : start + config.batch_size]
            if plug_in is not None and knowledge is not None:
                plug_in.feed(torch.from_numpy(knowledge[number][samples]))
            logits = model(*_inputs(day, samples))
            labels = torch.from_numpy(day.label[samples])
            loss = functional.binary_cross_entropy_with_logits(logits, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
    return steps


def score_downstream(
    day: Samples,
    model: Downstream,
    plug_in: PlugIn | None = None,
    knowledge: F32 | None = None,
    batch_size: int = 4096,
) -> F32:
    """Score impressions with a trained model.

    Parameters
    ----------
    day : Samples
        Impressions.
    model : Downstream
        Trained.
    plug_in : PlugIn, optional
        Attached to the model.
    knowledge : ndarray, shape (n, knowledge_width), float32, optional
        The impressions' knowledge, where there is a plug-in.
    batch_size : int
        Rows scored together.

    Returns
    -------
    ndarray, shape (n,), float32
        Logits.
    """
    model.eval()
    scores = np.empty(len(day), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(day), batch_size):
            samples = np.arange(start, min(start + batch_size, len(day)))
            if plug_in is not None and knowledge is not None:
                plug_in.feed(torch.from_numpy(knowledge[samples]))
            scores[samples] = model(*_inputs(day, samples)).numpy()
    return scores


def _inputs(day: Samples, samples: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    behaviours = torch.from_numpy(day.behaviours[samples].astype(np.int64))
    return torch.from_numpy(day.item[samples]), behaviours
