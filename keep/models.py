"""Teacher and students side by side, and how their tables grow when a day brings new ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gkc.arrays import F32
from keep.category import CategoryStudent
from keep.config import MODELS, TASKS, PretrainConfig
from keep.din import Teacher
from keep.features import UNKNOWN, Batch, Features, Rows, click_batch
from keep.layers import ItemFeatures, TableSizes
from keep.losses import batch_pair_loss, pair_loss, point_loss
from keep.two_tower import TwoTower


class Models(nn.Module):
    """Some of ``MODELS``, which one pass over the log trains, each with embeddings of its own.

    A model's initial weights depend on the seed and its name, not on which others are there.
    ``trained`` names those that are there, in the order of ``MODELS``.
    """

    teacher: Teacher
    two_tower: TwoTower
    category: CategoryStudent

    def __init__(
        self, sizes: TableSizes, config: PretrainConfig, trained: Sequence[str] = MODELS
    ) -> None:
        super().__init__()
        self.trained = tuple(name for name in MODELS if name in trained)
        for name, kind in zip(MODELS, (Teacher, TwoTower, CategoryStudent), strict=True):
            if name in self.trained:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(config.seed * len(MODELS) + MODELS.index(name))
                    self.add_module(name, kind(sizes, config))


def table_sizes(features: Features) -> TableSizes:
    """Count the rows that the vocabularies need now."""
    return TableSizes(
        users=len(features.users),
        items=len(features.items),
        shops=len(features.shops),
        categories=len(features.categories),
    )


def score_clicks(model: nn.Module, rows: Rows, features: Features, batch_size: int = 4096) -> F32:
    """Score n impressions with a model's click task, without learning from them: (n,) s_ui."""
    model.eval()
    scores = np.empty(len(rows), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            samples = np.arange(start, min(start + batch_size, len(rows)))
            scores[samples] = model(click_batch(rows, features, samples))[0].numpy()
    return scores


def task_losses(logits: list[Tensor], batch: Batch, config: PretrainConfig) -> list[Tensor]:
    """Compute equation 3 for each task of one model, whose loss is their sum.

    With B impressions in the step, n_t samples of task t (n_click = B, the others' are the clicks)
    and m_t pairs, a task's loss is, by ``config.weighting``::

        means        sum(point) / n_t  +  alpha * sum(pair) / m_t
        click_rate  (sum(point) / n_t  +  alpha * sum(pair) / m_t) * n_t / B
        sums        (sum(point)        +  alpha * sum(pair))             / B

    With pairs across the batch, a sample's pair loss is the mean over its partners, so that m_t is
    n_t, and the last two are the same.

    Parameters
    ----------
    logits : list of Tensor, shape (R,), float32
        Per task, as ``batch.scored`` lists them.

    Returns
    -------
    list of Tensor, shape (), float32
        One per task.

    References
    ----------
    KEEP (CIKM'22), equation 3: L = L_point + alpha * L_pair of a task, where the two are sums over
    samples and over triplets (equations 1 and 2).
    """
    losses = []
    for task in range(len(TASKS)):
        labels, paired = batch.labels[task], batch.paired[task]
        scores, partner = logits[task][: len(labels)], logits[task][len(labels) :]
        if config.pairs == "batch":
            pairs = batch_pair_loss(scores, labels)
        else:
            pairs = pair_loss(scores[paired], labels[paired], partner)
            if config.weighting == "sums":
                pairs = pairs * (len(paired) / max(len(labels), 1))
        loss = point_loss(scores, labels) + config.pair_weight * pairs
        if config.weighting != "means":
            loss = loss * (len(labels) / len(batch.samples))
        losses.append(loss)
    return losses


def distillation_loss(logits: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
    """Compare a student's task logits with the teacher's.

    Both are (R,) per task, as ``batch.scored`` lists them. The loss is the mean squared difference
    over a task's samples, summed over the tasks.
    """
    losses = []
    for task, labels in enumerate(batch.labels):
        samples = slice(len(labels))
        if len(labels):
            losses.append(functional.mse_loss(logits[task][samples], teacher[task][samples]))
    return torch.stack(losses).sum()


def grow_tables(
    models: Models, optimizers: dict[str, torch.optim.Adam], features: Features
) -> None:
    """Make the tables as long as the vocabularies; a new id starts as the unknown one.

    The optimizers' state grows with the tables, by zeros.
    """
    sizes = table_sizes(features)
    for name, model in models.named_children():
        assert isinstance(model, Teacher | TwoTower | CategoryStudent)
        optimizer = optimizers[name]
        _grow(model.user, sizes.users, optimizer)
        _grow(model.features.item, sizes.items, optimizer)
        _grow(model.features.shop, sizes.shops, optimizer)
        _grow(model.features.category, sizes.categories, optimizer)
        set_item_tables(model.features, features)


def set_item_tables(layer: ItemFeatures, features: Features) -> None:
    """Copy the items' shop and category rows into the buffers that behaviours are read through."""
    layer.item_shop = torch.from_numpy(features.item_shop.copy())
    layer.item_category = torch.from_numpy(features.item_category.copy())


def _grow(table: nn.Embedding, rows: int, optimizer: torch.optim.Adam) -> None:
    old = table.weight
    new_rows = rows - len(old)
    if new_rows == 0:
        return
    with torch.no_grad():
        table.weight = nn.Parameter(torch.cat([old, old[UNKNOWN].expand(new_rows, -1)]))
    table.num_embeddings = rows
    group = optimizer.param_groups[0]["params"]
    group[next(k for k, parameter in enumerate(group) if parameter is old)] = table.weight
    state = optimizer.state.pop(old, None)
    if state:
        for moment in ("exp_avg", "exp_avg_sq"):
            zeros = torch.zeros(new_rows, table.embedding_dim)
            state[moment] = torch.cat([state[moment], zeros])
        optimizer.state[table.weight] = state
