"""DARec: an extractor that both domains share, kept blind to the domain by gradient reversal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from keep.data import Data, Samples
from keep.layers import TableSizes, mlp
from keep.losses import point_loss
from keep.models import set_item_tables
from keep.systems import base
from keep.systems.base import Base, BaseRanker
from keep.systems.training import Ints, fit, inputs, labels, seeded


@dataclass(frozen=True, kw_only=True)
class Options(base.Options):
    """How DARec is built and trained."""

    batch_size: int = 128
    """Larger than Base's own: a day of all scenes has many times the sub-domain's rows."""
    domain_weight: float = 0.1
    """Weight of the domain classifier's loss."""


def grid(best: base.Options) -> tuple[Options, ...]:
    """List what is tried on the tuning day.

    Parameters
    ----------
    best : base.Options
        The options of Base that were found best.

    Returns
    -------
    tuple of Options
        Twelve.
    """
    return tuple(
        Options(
            **{**vars(best), "batch_size": batch_size, "learning_rate": rate},
            domain_weight=weight,
        )
        for batch_size, rate, weight in product((128, 512), (0.001, 0.003), (0.01, 0.1, 1.0))
    )


class _Reversal(Function):
    """The identity whose gradient is turned round."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength  # type: ignore[attr-defined]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None  # type: ignore[attr-defined]


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Pass a tensor on unchanged, and its gradient back times ``-strength``.

    Parameters
    ----------
    x : Tensor, any shape, float32
        What a classifier is to be shown, and its extractor to make useless for it.
    strength : float
        Lambda.

    Returns
    -------
    Tensor, shape of x, float32
        Equal to x.

    References
    ----------
    DANN, its gradient reversal layer, as cited in KEEP (CIKM'22) [8].
    """
    reversed_: Tensor = _Reversal.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_


def reversal_strength(progress: float) -> float:
    """Let the reversal grow from 0 to nearly 1 as training goes on.

    Parameters
    ----------
    progress : float
        Share of the training done, 0 to 1.

    Returns
    -------
    float
        Lambda: 2 / (1 + exp(-10 * progress)) - 1.

    References
    ----------
    DANN, its schedule, as cited in KEEP (CIKM'22) [8].
    """
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


class Logits(NamedTuple):
    """What DARec says of impressions."""

    source: Tensor
    """(B,) float32, positive, judged by the source's head."""
    target: Tensor
    """(B,) float32, positive, judged by the target's head."""
    domain: Tensor
    """(B,) float32, of the target domain."""


class DARec(Base):
    """Base up to its first hidden layer for both domains, then a head for each, and the classifier.

    The rest of Base's own MLP is the target's head; the source's head and the domain classifier
    have the same layers.

    Parameters
    ----------
    sizes : TableSizes
        Rows of the embedding tables.
    options : Options
        Widths.

    Notes
    -----
    DARec itself extracts from rating vectors that autoencoders have embedded; here, as KEEP
    describes it, it is DANN fitted to the task: its extractor is that of all compared systems.

    References
    ----------
    DARec and DANN, as cited in KEEP (CIKM'22) [27] and [8]; KEEP, section 6.2.
    """

    def __init__(self, sizes: TableSizes, options: Options) -> None:
        super().__init__(sizes, options)
        self.source = mlp((*options.hidden, 1))
        self.domain = mlp((*options.hidden, 1))

    def heads(self, items: Tensor, behaviours: Tensor, strength: float) -> Logits:
        """Judge impressions by all heads.

        Parameters
        ----------
        items : Tensor, shape (B, 3), int64
            Item, shop and category rows.
        behaviours : Tensor, shape (B, T), int64
            Item rows, 0 for padding.
        strength : float
            Lambda of the reversal below the domain classifier.

        Returns
        -------
        Logits
            Each (B,) float32.
        """
        extracted = self.mlp[:2](self.interaction(items, behaviours))  # (B, hidden[0])
        return Logits(
            source=self.source(extracted).squeeze(-1),
            target=self.mlp[2:](extracted).squeeze(-1),
            domain=self.domain(reverse_gradient(extracted, strength)).squeeze(-1),
        )


def domain_loss(logits: Tensor, is_target: Tensor) -> Tensor:
    """Cross-entropy of the domain classifier, both domains counting half.

    Parameters
    ----------
    logits : Tensor, shape (B,), float32
        Of being the target domain's.
    is_target : Tensor, shape (B,), bool
        Which ones are.

    Returns
    -------
    Tensor, shape (), float32
        Mean of the domains' means, so that the larger one is no safe guess: DANN draws half of
        each batch from each domain.
    """
    source, target = logits[~is_target], logits[is_target]
    return 0.5 * (
        point_loss(source, torch.zeros_like(source)) + point_loss(target, torch.ones_like(target))
    )


class AdversarialLoss:
    """The loss of a training step, which knows how far the training is.

    Parameters
    ----------
    model : DARec
        What is trained.
    domain_weight : float
        Weight of the domain classifier's loss.
    days : int
        How many days are trained on: progress counts days, each in shares of its impressions.
    task : int
        Position in ``TASKS``.
    """

    def __init__(self, model: DARec, domain_weight: float, days: int, task: int) -> None:
        self.model = model
        self.domain_weight = domain_weight
        self.days = days
        self.task = task
        self.days_done = 0.0

    def __call__(self, samples: Samples, positions: Ints) -> Tensor:
        """Compute the loss of some impressions: own head's labels, and the domain.

        Parameters
        ----------
        samples : Samples
            A day of both domains.
        positions : ndarray, shape (B,), int64
            Which impressions.

        Returns
        -------
        Tensor, shape (), float32
            The loss.
        """
        strength = reversal_strength(self.days_done / self.days)
        self.days_done += len(positions) / len(samples)
        logits = self.model.heads(*inputs(samples, positions), strength)
        is_target = torch.from_numpy(samples.day.sub_domain[positions])
        by_own_head = torch.where(is_target, logits.target, logits.source)
        label_loss = point_loss(by_own_head, labels(samples, positions, self.task))
        return label_loss + self.domain_weight * domain_loss(logits.domain, is_target)


def train(
    data: Data, days: Sequence[int], options: Options, seed: int, task: int = 0
) -> BaseRanker:
    """Train DARec: the sub-domain is the target, the other scenes are the source.

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
        The trained model: the target's head.
    """
    with seeded(seed):
        model = DARec(data.sizes, options)
    set_item_tables(model.features, data.features)
    loss = AdversarialLoss(model, options.domain_weight, len(days), task)
    model.train()
    of_task = (samples.of_task(task) for samples in data.super_domains(tuple(days)))
    fit(model.parameters(), of_task, loss, options, seed)
    return BaseRanker(model)
