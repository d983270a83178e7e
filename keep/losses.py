"""The parts of pretraining's hybrid loss, pointwise and pairwise, and the loss of distillation.

Equation 3 adds the parts up, point + alpha * pair: ``keep.models.task_losses``, which also says
what weighing means instead of sums comes to.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def point_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy between predicted probability and binary label, averaged.

    Parameters
    ----------
    logits : Tensor, shape (n,), float32
        s_ui of each sample.
    labels : Tensor, shape (n,), float32
        1 for positive, 0 for negative.

    Returns
    -------
    Tensor, shape (), float32
        The mean; 0 where there is no sample.

    References
    ----------
    KEEP (CIKM'22), equation 1; a mean instead of its sum, so that the learning rate does not
    depend on the batch size.
    """
    if len(logits) == 0:
        return logits.sum()
    return functional.binary_cross_entropy_with_logits(logits, labels)


def pair_loss(logits: Tensor, labels: Tensor, partner_logits: Tensor) -> Tensor:
    """Pairwise logistic loss between samples and partners of the opposite label, averaged.

    Parameters
    ----------
    logits : Tensor, shape (n,), float32
        s_ui of each sample.
    labels : Tensor, shape (n,), float32
        The sample's label; its partner has the other one.
    partner_logits : Tensor, shape (n,), float32
        s_uj of the same user's other item.

    Returns
    -------
    Tensor, shape (), float32
        The mean of log(1 + exp(-(positive - negative))); 0 where there is no pair.

    References
    ----------
    KEEP (CIKM'22), equation 2; a mean instead of its sum.
    """
    if len(logits) == 0:
        return logits.sum()
    margin = (2.0 * labels - 1.0) * (logits - partner_logits)
    return functional.softplus(-margin).mean()


def batch_pair_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Pairwise logistic loss of every positive with every negative of a batch, averaged.

    Parameters
    ----------
    logits : Tensor, shape (n,), float32
        s_ui of each sample, of any users.
    labels : Tensor, shape (n,), float32
        1 for positive, 0 for negative.

    Returns
    -------
    Tensor, shape (), float32
        The mean of log(1 + exp(-(positive - negative))); 0 where one class is missing.

    References
    ----------
    KEEP (CIKM'22), equation 2, with the triplet's item j drawn across users.
    """
    positive, negative = logits[labels > 0], logits[labels == 0]
    if len(positive) == 0 or len(negative) == 0:
        return logits.sum() * 0.0
    return functional.softplus(negative.unsqueeze(0) - positive.unsqueeze(1)).mean()


def block_loss(difference: Tensor, free: Tensor, plain_weight: float) -> Tensor:
    """Squared error of logits, most of it centred within the user: what ranks a user's items.

    Parameters
    ----------
    difference : Tensor, shape (B, G, tasks), float32
        A student's logits of B users and G items less the teacher's.
    free : Tensor, shape (B, G), bool
        The pairs that count.
    plain_weight : float
        Weight of the squared difference as it is, beside that less the user's mean.

    Returns
    -------
    Tensor, shape (tasks,), float32
        Means over the pairs that count; 0 where none does.
    """
    mask = free.unsqueeze(-1).to(difference.dtype)
    mean = (difference * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    squares = (difference - mean).square() + plain_weight * difference.square()
    return (squares * mask).sum(dim=(0, 1)) / mask.sum().clamp(min=1)
