"""DARec: an extractor that both domains share, kept blind to the domain by gradient reversal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from gkc.arrays import I64
from keep.data import Samples
from keep.layers import TableSizes, mlp
from keep.losses import point_loss
from keep.systems import base
from keep.systems.base import Base, BaseRanker, fitted
from keep.systems.system import Lesson, Step, System, every, inputs, labels, one_pass


@dataclass(frozen=True, kw_only=True)
class Options(base.SuperDomainOptions):
    """How DARec is built and trained."""

    domain_weight: float = 0.1
    """Weight of the domain classifier's loss."""


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
    """Pass a tensor of any shape on unchanged, and its gradient back times ``-strength``.

    References
    ----------
    DANN, its gradient reversal layer, as cited in KEEP (CIKM'22) [8].
    """
    reversed_: Tensor = _Reversal.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_


def reversal_strength(progress: float) -> float:
    """Let lambda grow from 0 to nearly 1 with the share of the training that is done.

    It is 2 / (1 + exp(-10 * progress)) - 1.

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
        """Judge impressions by all heads; ``strength`` is the reversal's below the classifier."""
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

    Progress counts ``days``, each in shares of its impressions.
    """

    def __init__(self, model: DARec, domain_weight: float, days: int, task: int) -> None:
        self.model = model
        self.domain_weight = domain_weight
        self.days = days
        self.task = task
        self.days_done = 0.0

    def __call__(self, samples: Samples, positions: I64) -> Tensor:
        """Compute the loss of some impressions of both domains: own head's labels, the domain."""
        strength = reversal_strength(self.days_done / self.days)
        self.days_done += len(positions) / len(samples)
        logits = self.model.heads(*inputs(samples, positions), strength)
        is_target = torch.from_numpy(samples.day.sub_domain[positions])
        by_own_head = torch.where(is_target, logits.target, logits.source)
        label_loss = point_loss(by_own_head, labels(samples, positions, self.task))
        return label_loss + self.domain_weight * domain_loss(logits.domain, is_target)


def build(lesson: Lesson[Options, None]) -> tuple[BaseRanker[DARec], Step]:
    """Make a fresh DARec: the sub-domain is the target, the other scenes are the source."""
    model = fitted(DARec(lesson.data.sizes, lesson.options), lesson.data)
    weight = lesson.options.domain_weight
    return BaseRanker(model), AdversarialLoss(model, weight, len(lesson.days), lesson.task)


DAREC = System(
    options=Options,
    tried=every(
        batch_size=(128, 512), learning_rate=(0.001, 0.003), domain_weight=(0.01, 0.1, 1.0)
    ),
    learn=one_pass(build, Lesson.super_domain),
)
