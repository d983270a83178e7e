"""BERT4Rec: hidden clicks are guessed from both sides, then the encoder is fine-tuned in Base."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gkc.arrays import I64
from keep.data import Data
from keep.features import PADDING
from keep.systems import sequences, transformer
from keep.systems.system import System, seeded
from keep.systems.transformer import Encoder, Options, hide, make_encoder, optimise


class Cloze(nn.Module):
    """A softmax over items at each hidden click, through the embeddings that are also the input.

    Parameters
    ----------
    items : ndarray, shape (V,), int64
        Rows of the items to choose from, ascending; others are never pushed away.
    counts : ndarray, shape (V,), int64
        Their clicks, at least one each: the bias starts at log frequency.

    References
    ----------
    BERT4Rec, as cited in KEEP (CIKM'22) [21]: its output layer and Cloze objective.
    """

    choices: Tensor
    place: Tensor

    def __init__(self, encoder: Encoder, items: I64, counts: I64) -> None:
        super().__init__()
        self.encoder = encoder
        width = len(encoder.hidden)
        place = np.zeros(encoder.features.item.num_embeddings, dtype=np.int64)
        place[items] = np.arange(len(items))
        self.register_buffer("choices", torch.from_numpy(items))
        self.register_buffer("place", torch.from_numpy(place))
        self.project = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.from_numpy(np.log(counts / counts.sum())).float())

    def forward(self, windows: Tensor, hidden: Tensor) -> Tensor:
        """Measure the mean surprise, in nats, of clicks hidden from the encoder; 0 if none is.

        ``windows`` are (B, T) item rows, 0 for padding; ``hidden`` is (B, T) bool.
        """
        context = functional.gelu(self.project(self.encoder(windows, hidden)[hidden]))
        rows = self.encoder.features.behaviours(self.choices)  # (V, width)
        logits = torch.addmm(self.bias, context, rows.T)
        places = self.place[windows[hidden]]
        surprise = functional.cross_entropy(logits, places, reduction="sum")
        return surprise / max(len(places), 1)


def pretrain(data: Data, days: Sequence[int], options: Options, seed: int) -> Encoder:
    """Pre-train an encoder on the users' clicks of all scenes on days of the log, ascending.

    No other day's impressions are read. The seed fixes weights, order and every other draw. The
    encoder is in evaluation mode.

    Notes
    -----
    Every hidden click is replaced by the mask, as in BERT4Rec, not 80 % of them, as in BERT.
    The softmax is over all items clicked on those days, not a sample. Windows with the last click
    alone hidden are not added: fine-tuning here is no next-item prediction.
    """
    windows = sequences.windows(data, days)
    items, counts = np.unique(windows[windows != PADDING], return_counts=True)
    rng = np.random.default_rng(seed)
    with seeded(seed):
        objective = Cloze(make_encoder(data, options), items, counts)

        def loss(part: I64) -> Tensor:
            hidden = torch.from_numpy(hide(part, options.mask_rate, rng))
            value: Tensor = objective(torch.from_numpy(part), hidden)
            return value

        optimise(objective.parameters(), windows, loss, options, rng)
    return objective.encoder.eval()


BERT4REC = System(
    options=Options,
    tried=transformer.TRIED,
    learn=transformer.fine_tune,
    takes=Encoder,
    pretrain=pretrain,
)
