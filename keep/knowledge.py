"""Read knowledge out of a pretraining: any user-item pair, in raw ids, frozen at its day."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keep.checkpoint import Pretraining
from keep.config import TASKS, PretrainConfig

F32 = NDArray[np.float32]
Ints = NDArray[np.int64]


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
    user, history, item = _rows(state, users, items, shops, categories)
    return _in_batches(
        lambda part: teacher.knowledge(
            torch.from_numpy(user[part]),
            _behaviours(history, user[part]),
            torch.from_numpy(item[part]),
        ),
        len(user),
        batch_size,
    )


def student_knowledge(
    state: Pretraining,
    users: Ints,
    items: Ints,
    shops: Ints,
    categories: Ints,
    batch_size: int = 4096,
    as_stored: bool = False,
) -> F32:
    """Read the students' rows of pairs, as they would be served.

    Parameters
    ----------
    state : Pretraining
        A checkpoint with both students.
    users, items, shops, categories : ndarray, shape (n,), int64
        Raw ids of each pair and of the item's features; unknown ones are read as the unknown id.
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
    two_tower, category = state.models.two_tower, state.models.category
    user, history, item = _rows(state, users, items, shops, categories)

    def row(part: slice) -> Tensor:
        who, what = torch.from_numpy(user[part]), torch.from_numpy(item[part])
        behaviours = _behaviours(history, user[part])
        k_u = two_tower.user_knowledge(who, behaviours)
        k_i = two_tower.item_knowledge(what)
        k_uc = category.knowledge(who, behaviours, what[:, 2])
        if as_stored:
            k_u, k_i, k_uc = (vector.half().float() for vector in (k_u, k_i, k_uc))
        return torch.cat([k_u, k_i, k_u * k_i, k_uc], dim=-1)

    return _in_batches(row, len(user), batch_size)


def _rows(
    state: Pretraining, users: Ints, items: Ints, shops: Ints, categories: Ints
) -> tuple[Ints, NDArray[np.int32], Ints]:
    features = state.features
    item = [
        features.items.rows(items),
        features.shops.rows(shops),
        features.categories.rows(categories),
    ]
    return features.users.rows(users), features.history, np.stack(item, axis=1)


def _behaviours(history: NDArray[np.int32], user: Ints) -> Tensor:
    return torch.from_numpy(history[user].astype(np.int64))


def _in_batches(row: Callable[[slice], Tensor], count: int, batch_size: int) -> F32:
    with torch.inference_mode():
        parts = [
            row(slice(start, start + batch_size)).numpy()
            for start in range(0, max(count, 1), batch_size)
        ]
    return np.concatenate(parts)
