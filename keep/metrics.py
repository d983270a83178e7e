"""What a ranking with probabilities is judged by: GAUC, AUC, log loss and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gkc.arrays import I64, Bools, Floats
from keep.gauc import gauc, user_aucs


@dataclass(frozen=True)
class Metrics:
    """Metrics of one task's predictions; NaN where one does not exist."""

    gauc: float
    """Impression-weighted mean of the users' AUC; NaN where no user has both classes."""
    auc: float
    """AUC over all impressions, whoever's they are; NaN where there is one class only."""
    log_loss: float
    """Mean cross-entropy between label and predicted probability, in nats."""
    calibration: float
    """Mean predicted probability over the observed rate of positives: above 1, the model predicts
    too much; NaN where there is no positive."""
    impressions: int
    """Impressions that were predicted."""
    positive_rate: float
    """Share of positives among them."""
    users: int
    """Users with both classes: those that the GAUC counts."""


def metrics(users: I64, labels: Bools, logits: Floats) -> Metrics:
    """Compute all metrics of one task's predictions, exactly and in float64.

    Parameters
    ----------
    users : ndarray, shape (n,), int64
        Whose impression each row is.
    labels : ndarray, shape (n,), bool
        Whether it was positive.
    logits : ndarray, shape (n,), floating
        Log-odds of the predicted probability, of any size.

    Returns
    -------
    Metrics
        The metrics; all NaN, with zero counts, where there is no impression.

    Raises
    ------
    ValueError
        If the columns differ in length or a logit is NaN.
    """
    grouped = gauc(users, labels, logits)
    everyone = np.zeros(len(users), dtype=np.int64)
    _, _, auc = user_aucs(everyone, labels, logits)
    z = logits.astype(np.float64)
    predicted = np.exp(-np.logaddexp(0.0, -z))  # (n,) sigmoid, without overflow
    losses = np.logaddexp(0.0, np.where(labels, -z, z))  # (n,)
    return Metrics(
        gauc=grouped.value,
        auc=float(auc[0]) if len(auc) else float("nan"),
        log_loss=float(losses.mean()) if len(z) else float("nan"),
        calibration=float(predicted.sum() / labels.sum()) if labels.any() else float("nan"),
        impressions=len(z),
        positive_rate=grouped.positive_rate,
        users=grouped.users,
    )
