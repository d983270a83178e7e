"""The hybrid loss of pretraining: pointwise cross-entropy plus a weighted pairwise loss."""

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


def hybrid_loss(
    logits: Tensor, labels: Tensor, paired: Tensor, partner_logits: Tensor, pair_weight: float
) -> Tensor:
    """Pointwise loss plus alpha times pairwise loss of one task.

    Parameters
    ----------
    logits : Tensor, shape (n,), float32
        s_ui of each sample of the task.
    labels : Tensor, shape (n,), float32
        The samples' labels.
    paired : Tensor, shape (m,), int64
        Which samples have a partner.
    partner_logits : Tensor, shape (m,), float32
        The partners' logits.
    pair_weight : float
        Alpha.

    Returns
    -------
    Tensor, shape (), float32
        The task's loss.

    References
    ----------
    KEEP (CIKM'22), equation 3.
    """
    pairs = pair_loss(logits[paired], labels[paired], partner_logits)
    return point_loss(logits, labels) + pair_weight * pairs
