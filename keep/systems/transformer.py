"""A small transformer over click sequences: pre-trained without labels, then Base's encoder."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gkc.arrays import I64, Bools
from keep.data import Data
from keep.errors import ProblemError
from keep.features import PADDING
from keep.layers import ItemFeatures, TableSizes
from keep.models import set_item_tables
from keep.systems import base
from keep.systems.base import Base, BaseRanker, click_loss, fitted
from keep.systems.system import Lesson, Step, every, one_pass
from keep.weights import DAMAGE, load_weights


class EncoderError(ProblemError):
    """A file that an encoder cannot be read from."""

    kind = "encoder "


STD = 0.02
"""Standard deviation of fresh positions and of the vector of a hidden click, as in BERT."""


@dataclass(frozen=True, kw_only=True)
class Options(base.Options):
    """How the encoder is built, pre-trained and fine-tuned; its width is 3 * feature_dim."""

    layers: int = 1
    """Transformer layers; a second one learned no more and cost twice the time."""
    heads: int = 2
    """Attention heads of a layer."""
    mask_rate: float = 0.2
    """Share of clicks that pre-training hides."""
    epochs: int = 5
    """Passes of pre-training over the windows, each with fresh masks; later ones overfit."""
    pretrain_batch_size: int = 64
    """Windows in a step of pre-training."""
    pretrain_embedding_std: float = 0.1
    """Standard deviation of embeddings before pre-training; from 0.01 it learns far more slowly."""
    pretrain_learning_rate: float = 0.001
    """Adam's learning rate in pre-training."""
    pretrain_dropout: float = 0.1
    """Dropout of pre-training."""
    dropout: float = 0.0
    """Dropout of fine-tuning."""
    context_gain: float = 0.01
    """What the encoder's output is multiplied by, when fine-tuning begins, before it is added to
    the behaviours' embeddings."""


TRIED = every(batch_size=(64, 128), learning_rate=(0.001, 0.003), context_gain=(0.0, 0.01, 0.1))
"""Fine-tuning alone differs: all trials share one pre-trained encoder."""


class Layer(nn.Module):
    """Multi-head self-attention, then a feed-forward network; each is added and normalised.

    ``heads`` divides the width d of a position.

    References
    ----------
    BERT4Rec, as cited in KEEP (CIKM'22) [21]: its transformer layer, with GELU.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.narrow_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor, dropout: float) -> Tensor:
        """Let positions see one another.

        Parameters
        ----------
        x : Tensor, shape (B, T, d), float32
            Positions.
        bias : Tensor, shape (B, 1, 1, T), float32
            Added to the attention scores: very negative where there is padding.
        dropout : float
            Share of each sublayer's output that is dropped in training.

        Returns
        -------
        Tensor, shape (B, T, d), float32
            Positions that know their context.
        """
        B, T, d = x.shape
        q, k, v = self.project(x).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        mixed = self.attended(heads.transpose(1, 2).reshape(B, T, d))
        x = self.attended_norm(x + functional.dropout(mixed, dropout, self.training))
        fed = self.narrow(functional.gelu(self.widen(x)))
        out: Tensor = self.narrow_norm(x + functional.dropout(fed, dropout, self.training))
        return out


class Encoder(nn.Module):
    """Embeddings of clicks and of their positions, and bidirectional transformer layers.

    Windows and behaviours are ``length`` long: T.
    """

    def __init__(self, sizes: TableSizes, length: int, options: Options) -> None:
        super().__init__()
        width = 3 * options.feature_dim
        self.dropout = options.pretrain_dropout
        self.features = ItemFeatures(sizes, options.feature_dim, options.pretrain_embedding_std)
        self.positions = nn.Parameter(STD * torch.randn(length, width))
        self.hidden = nn.Parameter(STD * torch.randn(width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, options.heads) for _ in range(options.layers))

    def forward(self, items: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Encode sequences; padding is never attended to.

        Parameters
        ----------
        items : Tensor, shape (B, T), int64
            Item rows, 0 for padding.
        hidden : Tensor, shape (B, T), bool, optional
            Clicks of which the encoder is shown only that they happened: neither item nor shop
            nor category.

        Returns
        -------
        Tensor, shape (B, T, width), float32
            Each click in its context; without meaning where there is padding.
        """
        x = self.features.behaviours(items)
        if hidden is not None:
            x = torch.where(hidden.unsqueeze(-1), self.hidden, x)
        x = self.norm(x + self.positions)
        x = functional.dropout(x, self.dropout, self.training)
        # Finite, so that a sequence of padding alone gives no NaN.
        bias = torch.where(items == PADDING, -1e9, 0.0)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias, self.dropout)
        return x


def save_encoder(encoder: Encoder, options: Options, path: Path) -> None:
    """Write an encoder's weights, and the options that it was made with as plain values."""
    torch.save({"options": dataclasses.asdict(options), "weights": encoder.state_dict()}, path)


def load_encoder(path: Path, kind: type[Options]) -> Encoder:
    """Read what ``save_encoder`` wrote, with options of a kind, without running code of the file.

    The encoder is in evaluation mode.

    Raises
    ------
    EncoderError
        If the file is missing, damaged, or something else.
    """
    try:
        saved = load_weights(path)
        options, weights = kind(**saved["options"]), saved["weights"]
        tables = (len(weights[f"features.{name}.weight"]) for name in ("item", "shop", "category"))
        # Of users an encoder knows nothing.
        encoder = Encoder(TableSizes(0, *tables), len(weights["positions"]), options)
        encoder.load_state_dict(weights)
    except DAMAGE as exc:
        raise EncoderError(path, f"is damaged ({exc}); remove it and run again") from exc
    return encoder.eval()


def make_encoder(data: Data, options: Options) -> Encoder:
    """Make a fresh encoder whose tables fit the data; it draws from torch's generator."""
    encoder = Encoder(data.sizes, data.features.length, options)
    set_item_tables(encoder.features, data.features)
    return encoder


def hide(windows: I64, rate: float, rng: np.random.Generator) -> Bools:
    """Choose clicks of (B, T) windows to hide, each with the same probability; no padding."""
    hidden: Bools = (rng.random(windows.shape, dtype=np.float32) < rate) & (windows != PADDING)
    return hidden


def optimise(
    parameters: Iterable[nn.Parameter],
    windows: I64,
    loss: Callable[[I64], Tensor],
    options: Options,
    rng: np.random.Generator,
) -> None:
    """Pre-train by Adam over shuffled windows, shape (W, T).

    ``loss`` is that of some windows, shape (B, T); ``rng`` gives the order.
    """
    optimizer = torch.optim.Adam(parameters, lr=options.pretrain_learning_rate, fused=True)
    for _ in range(options.epochs):
        order = rng.permutation(len(windows))
        for start in range(0, len(order), options.pretrain_batch_size):
            value = loss(windows[order[start : start + options.pretrain_batch_size]])
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


class EncodedBase(Base):
    """Base with pre-trained tables, whose attention sees each behaviour in its context.

    The encoder's output, times a trained gain, is added to the behaviours' embeddings. It is
    normalised to unit scale, about ten times that of the embeddings, and the attention sums over
    behaviours; without the gain it drowns the candidate.

    The encoder was pre-trained on the same vocabularies, or before they grew; it is copied.
    """

    def __init__(self, sizes: TableSizes, options: Options, encoder: Encoder) -> None:
        super().__init__(sizes, options)
        with torch.no_grad():
            for name in ("item", "shop", "category"):
                source = getattr(encoder.features, name)
                getattr(self.features, name).weight[: source.num_embeddings] = source.weight
        self.encoder = copy.deepcopy(encoder)
        self.encoder.features = self.features
        self.encoder.dropout = options.dropout
        self.gain = nn.Parameter(torch.full((3 * options.feature_dim,), options.context_gain))

    def keys(self, behaviours: Tensor) -> Tensor:
        """Embed behaviours, (B, T) item rows, in context; shape (B, T, 3 * feature_dim)."""
        context: Tensor = self.encoder(behaviours)
        return super().keys(behaviours) + self.gain * context


def build(lesson: Lesson[Options, Encoder]) -> tuple[BaseRanker[EncodedBase], Step]:
    """Put a pre-trained encoder inside Base, to be fine-tuned; all of it is trained."""
    model = EncodedBase(lesson.data.sizes, lesson.options, lesson.side_input)
    return BaseRanker(fitted(model, lesson.data)), click_loss(model, lesson.task)


fine_tune = one_pass(build, Lesson.sub_domain, draws=True)
