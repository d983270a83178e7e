"""Read knowledge out of a pretraining: any user-item pair, in raw ids, frozen at its day."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keep.checkpoint import Pretraining
from keep.config import TASKS, PretrainConfig
from keep.features import PADDING, UNKNOWN, Features

F32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TOP_CATEGORIES = 20
"""Most shown categories that every user is exported with."""


def teacher_spans(config: PretrainConfig) -> dict[str, tuple[int, int]]:
    """Tell where the parts of K(u, i) lie.

    Parameters
    ----------
    config : PretrainConfig
        Widths.

    Returns
    -------
    dict
        ``user``, ``item`` and each task to its first column and the one behind its last.

    References
    ----------
    KEEP (CIKM'22), equation 4.
    """
    widths = {"user": config.user_dim, "item": config.item_dim}
    widths |= dict.fromkeys(TASKS, config.mlp[-1])
    ends = np.cumsum(list(widths.values())).tolist()
    return {
        name: (end - width, end) for (name, width), end in zip(widths.items(), ends, strict=True)
    }


def knowledge_of(
    state: Pretraining,
    users: Ints,
    items: Ints,
    shops: Ints,
    categories: Ints,
    batch_size: int = 4096,
) -> F32:
    """Read the teacher's knowledge of pairs, with behaviours up to the checkpoint's day.

    Parameters
    ----------
    state : Pretraining
        A checkpoint with a teacher.
    users, items, shops, categories : ndarray, shape (n,), int64
        Raw ids of each pair and of the item's features; unknown ones are read as the unknown id.
    batch_size : int
        Pairs computed together.

    Returns
    -------
    ndarray, shape (n, user_dim + item_dim + 3 * mlp[-1]), float32
        K(u, i) = [K_u, K_i, K_ui of click, conversion and cart].

    References
    ----------
    KEEP (CIKM'22), equation 4.
    """
    teacher = state.models.teacher
    features = state.features
    user, history = features.users.rows(users), features.history
    columns = [
        features.items.rows(items),
        features.shops.rows(shops),
        features.categories.rows(categories),
    ]
    item = np.stack(columns, axis=1)
    return _in_batches(
        lambda part: teacher.knowledge(
            torch.from_numpy(user[part]),
            _behaviours(history, user[part]),
            torch.from_numpy(item[part]),
        ),
        len(user),
        batch_size,
    )


def is_exported(
    features: Features, users: Ints, categories: Ints, top_categories: int = TOP_CATEGORIES
) -> Bools:
    """Tell which user-category pairs a bundle has.

    Parameters
    ----------
    features : Features
        Of the checkpoint that is bundled.
    users, categories : ndarray, shape (n,), int64
        Rows of the embedding tables.
    top_categories : int
        How many of the most shown categories every user is paired with, besides those of the
        user's behaviours.

    Returns
    -------
    ndarray, shape (n,), bool
        Whether both are known, and the category is one of the user's or of the most shown.
    """
    own = features.history[users]  # (n, T)
    clicked = (features.item_category[own] == categories[:, None]) & (own != PADDING)
    top = np.isin(categories, most_shown(features, top_categories))
    known = (users > UNKNOWN) & (categories > UNKNOWN)
    return np.asarray(known & (top | clicked.any(axis=1)))


def most_shown(features: Features, count: int) -> Ints:
    """List the categories that had most impressions.

    Parameters
    ----------
    features : Features
        Counts impressions by category.
    count : int
        How many at most.

    Returns
    -------
    ndarray, shape (count or fewer,), int64
        Rows of the category table.
    """
    order: Ints = np.argsort(-features.shown[UNKNOWN + 1 :], kind="stable")[:count]
    return order + UNKNOWN + 1


def student_knowledge(
    state: Pretraining,
    users: Ints,
    items: Ints,
    categories: Ints,
    batch_size: int = 4096,
    as_stored: bool = False,
) -> F32:
    """Read the students' rows of pairs, as they would be served.

    As in the store, an item's vector is that of its shop and category as last seen, and an
    unknown user, an unknown item and a pair that is not exported have default vectors.

    Parameters
    ----------
    state : Pretraining
        A checkpoint with both students.
    users, items, categories : ndarray, shape (n,), int64
        Raw ids; unknown ones are read as the unknown id.
    batch_size : int
        Pairs computed together.
    as_stored : bool
        Whether vectors are rounded to f16 first, as the store does by default.

    Returns
    -------
    ndarray, shape (n, 3 * D + D_c), float32
        [K_u, K_i, K_u * K_i, K_uc].

    References
    ----------
    KEEP (CIKM'22), equation 6.
    """
    two_tower, student, features = state.models.two_tower, state.models.category, state.features
    user, item = features.users.rows(users), features.items.rows(items)
    category = features.categories.rows(categories)
    exported = is_exported(features, user, category)
    owner = np.where(exported, user, UNKNOWN)
    category = np.where(exported, category, UNKNOWN)
    triple = np.stack([item, features.item_shop[item], features.item_category[item]], axis=1)

    def row(part: slice) -> Tensor:
        k_u = two_tower.user_knowledge(
            torch.from_numpy(user[part]), _behaviours(features.history, user[part])
        )
        k_i = two_tower.item_knowledge(torch.from_numpy(triple[part]))
        k_uc = student.knowledge(
            torch.from_numpy(owner[part]),
            _behaviours(features.history, owner[part]),
            torch.from_numpy(category[part]),
        )
        if as_stored:
            k_u, k_i, k_uc = (vector.half().float() for vector in (k_u, k_i, k_uc))
        return torch.cat([k_u, k_i, k_u * k_i, k_uc], dim=-1)

    return _in_batches(row, len(user), batch_size)


def _behaviours(history: NDArray[np.int32], user: Ints) -> Tensor:
    return torch.from_numpy(history[user].astype(np.int64))


def _in_batches(row: Callable[[slice], Tensor], count: int, batch_size: int) -> F32:
    with torch.inference_mode():
        parts = [
            row(slice(start, start + batch_size)).numpy()
            for start in range(0, max(count, 1), batch_size)
        ]
    return np.concatenate(parts)
