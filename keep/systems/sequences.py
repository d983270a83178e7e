"""Users' click sequences over some days, cut into windows: what self-supervised methods learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gkc.arrays import I64
from keep.data import Data


def clicks(data: Data, days: Sequence[int]) -> tuple[I64, I64]:
    """Collect the clicks of all scenes over some days, ascending, user by user, oldest first.

    Returns (n,) rows of the user and item tables, sorted by user, day and time; equal times keep
    the log's order.
    """
    users, items = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for number in days:
        samples = data.super_domain(number)
        clicked = np.flatnonzero(samples.day.click)
        clicked = clicked[np.argsort(samples.day.time[clicked], kind="stable")]
        users.append(samples.rows.user[clicked])
        items.append(samples.rows.item[clicked, 0])
    user, item = np.concatenate(users), np.concatenate(items)
    order = np.argsort(user, kind="stable")
    return user[order], item[order]


def windows(data: Data, days: Sequence[int]) -> I64:
    """Cut each user's clicks into windows that do not overlap, the newest window full first.

    Windows are as long, and padded on the same side, as the behaviours that downstream models see,
    so positions mean the same. A window of one click has no context and is left out. They are (W,
    T) item rows, oldest first, 0 for padding; by user, a user's newest window first.
    """
    length = data.features.length
    user, item = clicks(data, days)
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    counts = np.diff(starts, append=len(user))  # clicks of each user
    age = np.repeat(starts + counts, counts) - np.arange(len(user)) - 1  # 0 = newest
    per_user = -(-counts // length)  # windows of each user, rounded up
    first = np.repeat(np.cumsum(per_user) - per_user, counts)
    cut = np.zeros((int(per_user.sum()), length), dtype=np.int64)
    cut[first + age // length, length - 1 - age % length] = item
    with_context: I64 = cut[np.count_nonzero(cut, axis=1) > 1]
    return with_context
