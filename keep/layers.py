"""Building blocks that the teacher, the students and the downstream model share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class TableSizes(NamedTuple):
    """Rows of each embedding table, padding and unknown included."""

    users: int
    items: int
    shops: int
    categories: int


def embedding(rows: int, dim: int, std: float) -> nn.Embedding:
    """Make a table with small random rows and a padding row of zeros."""
    table = nn.Embedding(rows, dim, padding_idx=0)
    with torch.no_grad():
        table.weight.normal_(0.0, std)
        table.weight[0] = 0.0
    return table


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Stack linear layers with ReLU after each but the last: (B, widths[0]) to (B, widths[-1])."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ItemFeatures(nn.Module):
    """Embeddings of an item's id, shop and category, shared by candidates and behaviours."""

    item_shop: Tensor
    item_category: Tensor

    def __init__(self, sizes: TableSizes, dim: int, std: float) -> None:
        super().__init__()
        self.item = embedding(sizes.items, dim, std)
        self.shop = embedding(sizes.shops, dim, std)
        self.category = embedding(sizes.categories, dim, std)
        self.register_buffer("item_shop", torch.zeros(sizes.items, dtype=torch.int64))
        self.register_buffer("item_category", torch.zeros(sizes.items, dtype=torch.int64))

    def forward(self, items: Tensor) -> Tensor:
        """Embed candidates, (..., 3) rows of item, shop and category: (..., 3 * dim)."""
        item, shop, category = items.unbind(-1)
        parts = [self.item(item), self.shop(shop), self.category(category)]
        return torch.cat(parts, dim=-1)

    def behaviours(self, items: Tensor) -> Tensor:
        """Embed behaviours, (B, T) item rows: (B, T, 3 * dim), zeros where there is padding.

        Their shop and category come from a constant table.
        """
        parts = [
            self.item(items),
            self.shop(self.item_shop[items]),
            self.category(self.item_category[items]),
        ]
        return torch.cat(parts, dim=-1)


class TargetAttention(nn.Module):
    """DIN's attention: weigh each behaviour by a small network of it and the candidate.

    The activation unit's first layer over [q, k, q * k] is split by its inputs, so that nothing
    wider than its hidden layer exists per behaviour: hidden = k (W_k + diag(q) W_p) + q W_q + b.
    Weights are not normalised, as in DIN. A candidate narrower than a behaviour is projected.

    References
    ----------
    KEEP (CIKM'22), section 4.2.1; DIN (KDD'18), as cited there [32].
    """

    def __init__(self, query_dim: int, key_dim: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(query_dim, key_dim) if query_dim != key_dim else nn.Identity()
        self.query = nn.Linear(key_dim, width)
        self.key = nn.Parameter(torch.empty(key_dim, width))
        self.product = nn.Parameter(torch.empty(key_dim, width))
        self.score = nn.Linear(width, 1)
        nn.init.xavier_uniform_(self.key)
        nn.init.xavier_uniform_(self.product)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Pool the behaviours once per candidate.

        Parameters
        ----------
        queries : Tensor, shape (B, G, query_dim), float32
            G candidates of each sample.
        keys : Tensor, shape (B, T, key_dim), float32
            The sample's behaviours.

        Returns
        -------
        Tensor, shape (B, G, key_dim), float32
            Weighted sums of behaviours.
        """
        B, G, _ = queries.shape
        T, H = keys.shape[1], self.query.out_features
        q = self.project(queries)  # (B, G, d)
        weights = self.key + q.unsqueeze(-1) * self.product  # (B, G, d, H)
        weights = weights.transpose(1, 2).reshape(B, keys.shape[2], G * H)  # (B, d, G * H)
        bias = self.query(q).reshape(B, 1, G * H)
        hidden = functional.relu(torch.baddbmm(bias, keys, weights))  # (B, T, G * H)
        scores = self.score(hidden.view(B, T, G, H)).squeeze(-1)  # (B, T, G)
        pooled: Tensor = torch.bmm((scores * mask.unsqueeze(-1)).transpose(1, 2), keys)
        return pooled


def behaviour_mask(behaviours: Tensor) -> Tensor:
    """Mark which behaviours, (B, T) item rows, are there: 1, or 0 for padding."""
    return (behaviours != 0).to(torch.float32)


def mean_pool(keys: Tensor, mask: Tensor) -> Tensor:
    """Average the behaviours that are there, (B, T, d) with a (B, T) mask of 1 and 0: (B, d).

    A user without behaviours has zeros.
    """
    count = mask.sum(dim=1, keepdim=True).clamp(min=1.0)
    return keys.sum(dim=1) / count
