"""Group AUC, the metric of every ranking in ``keep``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gkc.arrays import F64, I64, Bools, Floats


@dataclass(frozen=True)
class Gauc:
    """Group AUC of one ranking, and what it was counted over.

    ``value`` is NaN where no user has both classes.
    """

    value: float
    """The impression-weighted mean of the users' AUC."""
    users: int
    """Users with both classes: those that count."""
    users_left_out: int
    """Users with one class only, whose AUC does not exist."""
    impressions: int
    """Impressions of the users that count."""
    positive_rate: float
    """Share of positives over all impressions given, of counted and left-out users."""


def gauc(users: I64, labels: Bools, scores: Floats) -> Gauc:
    """Compute the impression-weighted mean of per-user AUC, exact also with tied scores.

    Parameters
    ----------
    users : ndarray, shape (n,), int64
        Whose impression each row is.
    labels : ndarray, shape (n,), bool
        Whether it was positive.
    scores : ndarray, shape (n,), floating
        The ranking's score; higher means more likely positive.

    Returns
    -------
    Gauc
        The metric; users whose impressions are all of one class are left out and counted.

    Raises
    ------
    ValueError
        If the columns differ in length or a score is NaN.

    References
    ----------
    KEEP (CIKM'22), equation 7.
    """
    counted, impressions, auc = user_aucs(users, labels, scores)
    total = int(impressions.sum())
    return Gauc(
        value=float((impressions * auc).sum() / total) if total else float("nan"),
        users=len(counted),
        users_left_out=len(np.unique(users)) - len(counted),
        impressions=total,
        positive_rate=float(labels.mean()) if len(labels) else float("nan"),
    )


def user_aucs(users: I64, labels: Bools, scores: Floats) -> tuple[I64, I64, F64]:
    """Compute the AUC of each user who has both classes, exact also with tied scores.

    Columns are as for ``gauc``.

    Returns
    -------
    users : ndarray, shape (U,), int64
        Users with both classes, ascending.
    impressions : ndarray, shape (U,), int64
        How many rows each has.
    auc : ndarray, shape (U,), float64
        Share of the user's pairs of a positive and a negative that are ranked rightly; tied
        pairs count half.

    Raises
    ------
    ValueError
        If the columns differ in length or a score is NaN.
    """
    if not len(users) == len(labels) == len(scores):
        raise ValueError(f"columns differ in length: {len(users)}, {len(labels)}, {len(scores)}")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN, which has no rank")
    if len(users) == 0:
        none = np.empty(0, dtype=np.int64)
        return none, none, np.empty(0, dtype=np.float64)
    order = np.lexsort((scores, users))
    user, label, score = users[order], labels[order].astype(np.int64), scores[order]

    starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])  # (users,) first row of each
    counts = np.diff(np.r_[starts, len(user)])  # (users,)
    positives = np.add.reduceat(label, starts)  # (users,)
    rank_sums = np.add.reduceat(_twice_midranks(user, score, starts, counts) * label, starts)

    both = (positives > 0) & (positives < counts)
    p, n = positives[both], (counts - positives)[both]
    auc = (rank_sums[both] - p * (p + 1)) / (2.0 * p * n)  # (U,)
    return user[starts[both]], counts[both], auc


def _twice_midranks(
    user: I64,
    score: Floats,
    starts: I64,
    counts: I64,
) -> I64:
    """Rank each row within its user, tied rows sharing their mean rank; doubled to stay integer."""
    ties = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (score[1:] != score[:-1])])
    sizes = np.diff(np.r_[ties, len(user)])
    first = ties - np.repeat(starts, counts)[ties]  # (ties,) 0-based rank within the user
    return np.repeat(2 * first + sizes + 1, sizes)
