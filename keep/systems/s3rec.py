"""S3-Rec: four self-supervised objectives over click sequences, then fine-tuned as Base's encoder.

Two views of the same thing, an item and its attributes, a hidden click and its context, or a
segment and the rest of its sequence, are told from views of different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gkc.arrays import I64, Bools
from keep.data import Data
from keep.features import PADDING
from keep.systems import sequences, transformer
from keep.systems.system import System, seeded
from keep.systems.transformer import Encoder, hide, make_encoder, optimise


@dataclass(frozen=True, kw_only=True)
class Options(transformer.Options):
    """How S3-Rec is pre-trained and fine-tuned."""

    attribute_weight: float = 0.2
    """Weight of associated attribute prediction, as in the authors' code."""
    item_weight: float = 1.0
    """Weight of masked item prediction."""
    masked_attribute_weight: float = 1.0
    """Weight of masked attribute prediction."""
    segment_weight: float = 0.5
    """Weight of segment prediction."""


class Views(NamedTuple):
    """What chance makes of some windows; every array has the shape (B, T) of the windows."""

    hidden: Bools
    """Clicks that masked item and masked attribute prediction hide."""
    negatives: I64
    """Another item for each click."""
    segment: Bools
    """A run of each window's clicks, at most half of them."""
    strangers: I64
    """At the places of ``segment``, a run of clicks from anywhere; elsewhere the window itself."""


def draw_views(
    windows: I64, stream: I64, items: I64, mask_rate: float, rng: np.random.Generator
) -> Views:
    """Draw what is hidden, a share of the clicks, and what it is compared with.

    Parameters
    ----------
    windows : ndarray, shape (B, T), int64
        Item rows, padded on the left, at least two clicks each.
    stream : ndarray, shape (n,), int64
        All clicks one after another; other items and strange segments are drawn from it.
    items : ndarray, shape (V,), int64
        Its distinct items, ascending, at least two.
    """
    B, T = windows.shape
    drawn = stream[rng.integers(0, len(stream), (B, T))]
    other = items[(np.searchsorted(items, drawn) + 1) % len(items)]
    negatives = np.where(drawn == windows, other, drawn)

    count = np.count_nonzero(windows, axis=1)
    length = rng.integers(1, count // 2 + 1)  # (B,)
    start = T - count + rng.integers(0, count - length + 1)
    place = np.arange(T) - start[:, None]  # (B, T), 0 where the segment begins
    segment = (place >= 0) & (place < length[:, None])
    origin = rng.integers(0, len(stream) - length + 1)
    source = np.where(segment, origin[:, None] + place, 0)
    strangers = np.where(segment, stream[source], windows)
    return Views(hide(windows, mask_rate, rng), negatives, segment, strangers)


def nce(same: Tensor, different: Tensor) -> Tensor:
    """Tell (n,) logits of views of the same thing from (m,) logits of views of different things.

    The loss is - sum log sigmoid(same) - sum log(1 - sigmoid(different)).
    """
    return functional.softplus(-same).sum() + functional.softplus(different).sum()


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Multiply rows, (n, d) by (n, d), to (n,)."""
    return (x * y).sum(dim=-1)


class Attribute(nn.Module):
    """Tells the value of one attribute that an item has from all other values.

    Parameters
    ----------
    table : nn.Embedding
        Of the values.
    of_item : Tensor, shape (items,), int64
        The value's row of each item row.
    stream : ndarray, shape (n,), int64
        All clicks; their values are compared, and biases start at log odds among them.
    """

    of_item: Tensor
    values: Tensor
    place: Tensor

    def __init__(self, table: nn.Embedding, of_item: Tensor, stream: I64) -> None:
        super().__init__()
        self.table = table
        values, counts = np.unique(of_item.numpy()[stream], return_counts=True)
        place = np.zeros(table.num_embeddings, dtype=np.int64)
        place[values] = np.arange(len(values))
        self.register_buffer("of_item", of_item)
        self.register_buffer("values", torch.from_numpy(values))
        self.register_buffer("place", torch.from_numpy(place))
        odds = (counts + 1) / (counts.sum() - counts + 1)
        self.bias = nn.Parameter(torch.from_numpy(np.log(odds)).float())

    def forward(self, compared: Tensor, items: Tensor) -> Tensor:
        """Take the binary losses of all values, summed over items and values.

        ``compared``, (n, dim), are views of the items, (n,) rows, in the space of the values.
        """
        logits = torch.addmm(self.bias, compared, self.table(self.values).T)  # (n, values)
        true = self.place[self.of_item[items]].unsqueeze(1)
        # softplus(-x) = softplus(x) - x, so this turns the item's own value round.
        return functional.softplus(logits).sum() - logits.gather(1, true).sum()


class Objectives(nn.Module):
    """The four objectives and the matrices that compare their views.

    ``stream`` are all clicks, (n,): an attribute that none of them has is never pushed away.

    References
    ----------
    S3-Rec, as cited in KEEP (CIKM'22) [33]: associated attribute prediction, masked item
    prediction, masked attribute prediction, segment prediction.
    """

    def __init__(self, encoder: Encoder, stream: I64, options: Options) -> None:
        super().__init__()
        self.encoder = encoder
        self.options = options
        features = encoder.features
        self.shop = Attribute(features.shop, features.item_shop, stream)
        self.category = Attribute(features.category, features.item_category, stream)
        dim, width = options.feature_dim, 3 * options.feature_dim
        self.compare_attribute = nn.Linear(dim, dim, bias=False)
        self.compare_item = nn.Linear(width, dim, bias=False)
        self.compare_masked_attribute = nn.Linear(width, dim, bias=False)
        self.compare_segment = nn.Linear(width, width, bias=False)

    def forward(self, windows: Tensor, views: Views) -> Tensor:
        """Weigh and add the losses of (B, T) windows: sums over clicks and segments, per window."""
        hidden = torch.from_numpy(views.hidden)
        shown = windows[(windows != PADDING) & ~hidden]
        items, negatives = windows[hidden], torch.from_numpy(views.negatives)[hidden]
        context = self.encoder(windows, hidden)[hidden]  # (M, width)
        options = self.options
        weighted = (
            options.attribute_weight * self.associated_attributes(shown)
            + options.item_weight * self.masked_items(context, items, negatives)
            + options.masked_attribute_weight * self.masked_attributes(context, items)
            + options.segment_weight * self.segments(windows, views)
        )
        return weighted / len(windows)

    def associated_attributes(self, items: Tensor) -> Tensor:
        """Tell an item's shop and category from all others by the embedding of its id alone.

        The loss is summed over the items, (n,) rows.
        """
        compared = self.compare_attribute(self.encoder.features.item(items))
        total: Tensor = self.shop(compared, items) + self.category(compared, items)
        return total

    def masked_items(self, context: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """Tell a hidden item from another one by its context, (n, width); summed over the items.

        ``context`` is the encoder's output where the items, (n,) rows, are hidden.
        """
        compared, table = self.compare_item(context), self.encoder.features.item
        return nce(dot(compared, table(items)), dot(compared, table(negatives)))

    def masked_attributes(self, context: Tensor, items: Tensor) -> Tensor:
        """Tell a hidden item's shop and category from all others by its context; summed too."""
        compared = self.compare_masked_attribute(context)
        total: Tensor = self.shop(compared, items) + self.category(compared, items)
        return total

    def segments(self, windows: Tensor, views: Views) -> Tensor:
        """Tell the segment that was cut out of a window from a strange one; summed over windows.

        A sequence's vector is the encoder's last position.
        """
        segment = torch.from_numpy(views.segment)
        around = self.compare_segment(self.encoder(windows, segment)[:, -1])  # (B, width)
        inside = self.encoder(windows, ~segment)[:, -1]
        strange = self.encoder(torch.from_numpy(views.strangers), ~segment)[:, -1]
        return nce(dot(around, inside), dot(around, strange))


def pretrain(data: Data, days: Sequence[int], options: Options, seed: int) -> Encoder:
    """Pre-train an encoder on the users' clicks of all scenes on days of the log, ascending.

    No other day's impressions are read. The seed fixes weights, order and every other draw. The
    encoder is in evaluation mode.

    Notes
    -----
    All four objectives are binary noise-contrastive estimates. Negatives are all other values of
    the attribute, one other item drawn by its clicks, and one segment of the same length and place
    from anywhere in the clicks. So what is learned is what clicks have in common beyond being
    frequent; an attribute's frequency is left to its bias.
    The encoder sees shop and category of clicks that are not hidden, because Base's behaviours
    have them; so the first objective is, as in the paper, on the embedding of the item's id.
    """
    windows = sequences.windows(data, days)
    stream = windows[windows != PADDING]
    items = np.unique(stream)
    rng = np.random.default_rng(seed)
    with seeded(seed):
        objectives = Objectives(make_encoder(data, options), stream, options)

        def loss(part: I64) -> Tensor:
            views = draw_views(part, stream, items, options.mask_rate, rng)
            value: Tensor = objectives(torch.from_numpy(part), views)
            return value

        optimise(objectives.parameters(), windows, loss, options, rng)
    return objectives.encoder.eval()


S3REC = System(
    options=Options,
    tried=transformer.TRIED,
    learn=transformer.fine_tune,
    takes=Encoder,
    pretrain=pretrain,
)
