"""Read knowledge out of a pretraining: any user-item pair, in raw ids, frozen at its day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gkc.arrays import F32, I32, I64, Bools
from keep.checkpoint import Pretraining
from keep.config import TASKS, TOP_CATEGORIES, PretrainConfig
from keep.features import PADDING, UNKNOWN, Features
from keep.log import Day
from keep.models import Models

PartModels = Mapping[str, Callable[..., F32]]
"""Part to its model: table rows as its ONNX has them (``keep.to_onnx.INPUTS``) to vectors."""

STORED_PARTS = ("user", "item", "user_category")
"""What the store holds; the product of the first two is computed when it is asked for."""

BATCH_ROWS = 4096
"""Rows that a model computes at a time."""


def teacher_spans(config: PretrainConfig) -> dict[str, tuple[int, int]]:
    """Tell where the parts of K(u, i) lie: first column, and the one behind the last.

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


def knowledge_of(state: Pretraining, day: Day) -> F32:
    """Read the teacher's knowledge of a day's pairs, with behaviours up to the checkpoint's day.

    Unknown ids are read as the unknown id.

    Returns
    -------
    ndarray, shape (n, user_dim + item_dim + 3 * mlp[-1]), float32
        K(u, i) = [K_u, K_i, K_ui of click, conversion and cart].

    References
    ----------
    KEEP (CIKM'22), equation 4.
    """
    teacher, features = state.models.teacher, state.features
    rows = features.encode(day)

    def vectors(part: slice) -> F32:
        behaviours = features.history[rows.user[part]].astype(np.int64)
        return _computed(teacher.knowledge, rows.user[part], behaviours, rows.item[part])

    return _in_batches(vectors, len(rows))


def teacher_logits(state: Pretraining, rows: F32) -> F32:
    """Take the tasks' logits, (n, T), from rows of the teacher's knowledge (``knowledge_of``)."""
    tasks, spans = state.models.teacher.tasks, teacher_spans(state.config)
    with torch.inference_mode():
        logits = [
            tasks.logit(number, torch.from_numpy(rows[:, slice(*spans[task])]))
            for number, task in enumerate(TASKS)
        ]
    return torch.stack(logits, dim=1).numpy()


def is_exported(
    features: Features, users: I64, categories: I64, top_categories: int = TOP_CATEGORIES
) -> Bools:
    """Tell which user-category pairs, (n,) table rows each, a bundle has: (n,) bool.

    Both must be known, and the category one of the user's or of the most shown.
    """
    behaviours = features.history[users]  # (n, T)
    clicked = (features.item_category[behaviours] == categories[:, None]) & (behaviours != PADDING)
    top = np.isin(categories, most_shown(features, top_categories))
    known = (users > UNKNOWN) & (categories > UNKNOWN)
    return np.asarray(known & (top | clicked.any(axis=1)))


def most_shown(features: Features, count: int) -> I64:
    """List the categories that had most impressions, at most ``count``, as rows of their table."""
    order: I64 = np.argsort(-features.shown[UNKNOWN + 1 :], kind="stable")[:count]
    return order + UNKNOWN + 1


def student_vectors(
    state: Pretraining,
    part: str,
    users: I64,
    items: I64,
    categories: I64,
    models: PartModels | None = None,
    top_categories: int = TOP_CATEGORIES,
) -> tuple[F32, Bools]:
    """Read one part of the students' rows, as it would be stored.

    As in the store, an item's vector is that of its shop and category as last seen, and an
    unknown user, an unknown item and a pair that is not exported have default vectors.

    Parameters
    ----------
    part : str
        ``user``, ``item`` or ``user_category``.
    users, items, categories : ndarray, shape (n,), int64
        Raw ids, of which the part uses its own.
    models : mapping, optional
        What computes the vectors (``keep.to_onnx.bundled_models``); the checkpoint's students, in
        torch, if left out.
    top_categories : int
        As the bundle was made with (``is_exported``).

    Returns
    -------
    vectors : ndarray, shape (n, D) or (n, D_c), float32
        K_u, K_i or K_uc.
    exported : ndarray, shape (n,), bool
        Whether it is a vector of its own, not the default one.
    """
    features = state.features
    user, item = features.users.rows(users), features.items.rows(items)
    category = features.categories.rows(categories)
    exported = {"user": user > UNKNOWN, "item": item > UNKNOWN}.get(part)
    if exported is None:
        exported = is_exported(features, user, category, top_categories)
        user, category = np.where(exported, user, UNKNOWN), np.where(exported, category, UNKNOWN)
    model = (models or _torch_models(state.models))[part]

    def vectors(rows: slice) -> F32:
        if part == "item":
            items = item[rows]
            return model(items, features.item_shop[items], features.item_category[items])
        behaviours = _as_exported(features.history[user[rows]])
        if part == "user":
            return model(user[rows], behaviours)
        return model(user[rows], behaviours, category[rows])

    return _in_batches(vectors, len(user)), exported


def student_parts(students: Models) -> dict[str, Callable[..., Tensor]]:
    """Say what of the students computes each stored part, from its columns of table rows."""

    def item(*columns: Tensor) -> Tensor:
        return students.two_tower.item_knowledge(torch.stack(columns, dim=-1))

    return {
        "user": students.two_tower.user_knowledge,
        "item": item,
        "user_category": students.category.knowledge,
    }


def _torch_models(students: Models) -> PartModels:
    return {part: partial(_computed, compute) for part, compute in student_parts(students).items()}


def student_knowledge(
    state: Pretraining,
    users: I64,
    items: I64,
    categories: I64,
    as_stored: bool = False,
    maps: Mapping[str, Callable[[F32], F32]] | None = None,
    models: PartModels | None = None,
    top_categories: int = TOP_CATEGORIES,
) -> F32:
    """Read the students' rows of pairs, as they would be served (``student_vectors``).

    Parameters
    ----------
    users, items, categories : ndarray, shape (n,), int64
        Raw ids; unknown ones are read as the unknown id.
    as_stored : bool
        Whether vectors are rounded to f16 first, as the store does by default.
    maps : mapping, optional
        What each part's vectors go through before they are stored (``keep.compatibility``).

    Returns
    -------
    ndarray, shape (n, 3 * D + D_c), float32
        [K_u, K_i, K_u * K_i, K_uc].

    References
    ----------
    KEEP (CIKM'22), equation 6.
    """
    parts = []
    for part in STORED_PARTS:
        ids = (users, items, categories)
        vectors, _ = student_vectors(state, part, *ids, models, top_categories)
        if maps is not None:
            vectors = maps[part](vectors)
        parts.append(vectors.astype(np.float16).astype(np.float32) if as_stored else vectors)
    return as_row(*parts)


def as_row(k_u: F32, k_i: F32, k_uc: F32) -> F32:
    """Lay (n, D), (n, D) and (n, D_c) vectors side by side: [K_u, K_i, K_u * K_i, K_uc]."""
    return np.concatenate([k_u, k_i, k_u * k_i, k_uc], axis=1)


def logits_and_category(rows: F32, weights: F32) -> F32:
    """Choose columns of rows as served: each task's logit, summed of K_u * K_i, and K_uc.

    A small plug-in finds them sooner than all of a row. Of an answer of ``gkc.Client`` they are
    ``k.logits`` and ``k["user_category"]``.

    Parameters
    ----------
    rows : ndarray, shape (n, 3 * D + D_c), float32
        Equation 6.
    weights : ndarray, shape (T, D), float32
        How each task weighs K_u * K_i: ``keep.two_tower.TwoTower.logit_weights``.

    Returns
    -------
    ndarray, shape (n, T + D_c), float32
        Without the tasks' biases, which rank nothing.
    """
    dim = weights.shape[1]
    logits = rows[:, 2 * dim : 3 * dim] @ weights.T
    return np.concatenate([logits, rows[:, 3 * dim :]], axis=1)


def tasks_told(state: Pretraining) -> dict[str, object]:
    """Say of the tasks what a bundle's manifest does: ``tasks``, and ``task_weights`` of one tower.

    From them ``gkc.Client`` makes logits of ``user_item``.
    """
    told: dict[str, object] = {
        "tasks": [{"name": task, "dim": state.config.tower[-1]} for task in TASKS]
    }
    if state.config.towers == "shared":
        weights = state.models.two_tower.logit_weights.numpy()
        # The shortest decimals: a manifest may say 16 KiB of each key.
        told["task_weights"] = [[float(str(weight)) for weight in row] for row in weights]
    return told


def _as_exported(history: I32) -> I64:
    """Move each row's padding behind its behaviours, where the exporter has it.

    Models ignore padding, but the order of their sums, and so the last bits, depends on its place.
    """
    order = np.argsort(history == PADDING, axis=1, kind="stable")
    return np.take_along_axis(history, order, axis=1).astype(np.int64)


def _computed(compute: Callable[..., Tensor], *columns: I64) -> F32:
    vectors: F32 = compute(*map(torch.from_numpy, columns)).numpy()
    return vectors


def _in_batches(vectors: Callable[[slice], F32], count: int) -> F32:
    starts = range(0, max(count, 1), BATCH_ROWS)
    with torch.inference_mode():
        return np.concatenate([vectors(slice(start, start + BATCH_ROWS)) for start in starts])
