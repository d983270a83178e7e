"""Attention and pooling against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from keep.layers import (
    ItemFeatures,
    TableSizes,
    TargetAttention,
    behaviour_mask,
    embedding,
    mean_pool,
    mlp,
)


def slow_attention(
    layer: TargetAttention, query: np.ndarray, keys: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """DIN's activation unit over [q, k, q * k], one behaviour at a time."""
    state = {name: tensor.detach().numpy() for name, tensor in layer.named_parameters()}
    if "project.weight" in state:
        query = state["project.weight"] @ query + state["project.bias"]
    pooled = np.zeros(keys.shape[1])
    for key, there in zip(keys, mask, strict=True):
        first = np.concatenate([state["query.weight"].T, state["key"], state["product"]])
        unit = np.concatenate([query, key, query * key]) @ first + state["query.bias"]
        weight = state["score.weight"] @ np.maximum(unit, 0) + state["score.bias"]
        pooled += there * weight * key
    return pooled


@pytest.mark.parametrize("query_dim", [12, 4])
def test_attention_is_din_s_activation_unit(query_dim: int) -> None:
    torch.manual_seed(0)
    layer = TargetAttention(query_dim, 12, width=5)
    queries, keys = torch.randn(3, 2, query_dim), torch.randn(3, 7, 12)
    mask = (torch.rand(3, 7) < 0.6).float()
    found = layer(queries, keys, mask).detach().numpy()
    assert found.shape == (3, 2, 12)
    for sample in range(3):
        for candidate in range(2):
            expected = slow_attention(
                layer,
                queries[sample, candidate].numpy(),
                keys[sample].numpy(),
                mask[sample].numpy(),
            )
            np.testing.assert_allclose(found[sample, candidate], expected, rtol=1e-4, atol=1e-5)


def test_a_candidate_s_pooling_does_not_depend_on_the_other_candidates() -> None:
    torch.manual_seed(0)
    layer = TargetAttention(12, 12, width=5)
    queries, keys, mask = torch.randn(3, 4, 12), torch.randn(3, 7, 12), torch.ones(3, 7)
    alone = layer(queries[:, 2:3], keys, mask)
    torch.testing.assert_close(layer(queries, keys, mask)[:, 2:3], alone)


def test_mean_pool_counts_only_what_is_there() -> None:
    items = torch.tensor([[0, 0, 5, 6], [0, 0, 0, 0]])
    keys = torch.arange(8.0).reshape(2, 4, 1) * behaviour_mask(items).unsqueeze(-1)
    torch.testing.assert_close(mean_pool(keys, behaviour_mask(items)), torch.tensor([[2.5], [0.0]]))


def test_behaviours_find_their_shop_and_category_in_the_constant_tables() -> None:
    layer = ItemFeatures(TableSizes(users=2, items=5, shops=4, categories=6), dim=3, std=0.1)
    layer.item_shop = torch.tensor([0, 1, 2, 3, 2])
    layer.item_category = torch.tensor([0, 1, 5, 4, 3])
    triples = torch.tensor([[[3, 3, 4], [4, 2, 3], [0, 0, 0]]])
    torch.testing.assert_close(layer.behaviours(torch.tensor([[3, 4, 0]])), layer(triples))
    assert layer.behaviours(torch.zeros(1, 2, dtype=torch.int64)).abs().sum() == 0


def test_padding_row_is_zero_and_stays_zero() -> None:
    table = embedding(4, 3, std=0.1)
    table(torch.tensor([0, 1])).sum().backward()
    assert table.weight.grad is not None
    assert table.weight[0].abs().sum() == 0
    assert table.weight.grad[0].abs().sum() == 0


def test_mlp_ends_without_an_activation() -> None:
    layers = [type(layer).__name__ for layer in mlp((4, 8, 2))]
    assert layers == ["Linear", "ReLU", "Linear"]
