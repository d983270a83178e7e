"""The encoder against plain NumPy, its masks, and fine-tuning inside Base."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from keep.data import Data
from keep.models import set_item_tables
from keep.systems.base import BASE
from keep.systems.bert4rec import BERT4REC
from keep.systems.sequences import windows
from keep.systems.system import inputs
from keep.systems.transformer import (
    EncodedBase,
    Encoder,
    EncoderError,
    Layer,
    Options,
    hide,
    load_encoder,
    make_encoder,
    optimise,
    save_encoder,
)
from tests.keep.hostile import save_hostile
from tests.keep.tiny import tiny_log

OPTIONS = Options(feature_dim=4, hidden=(16, 8), layers=2, pretrain_batch_size=16)
T = 6


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tiny_log(tmp_path / "log"), 5, behaviours=T)


@pytest.fixture
def encoder(data: Data) -> Encoder:
    torch.manual_seed(0)
    return make_encoder(data, OPTIONS).eval()


def slow_norm(x: np.ndarray) -> np.ndarray:
    normed: np.ndarray = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return normed


def slow_layer(layer: Layer, x: np.ndarray, there: np.ndarray) -> np.ndarray:
    """One position and one head at a time; padding is not in the sums at all."""
    w = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    length, width = x.shape
    size = width // layer.heads
    q, k, v = np.split(x @ w["project.weight"].T + w["project.bias"], 3, axis=1)
    out = np.zeros_like(x)
    for t in range(length):
        mixed = np.zeros(width)
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            scores = {s: q[t, part] @ k[s, part] / math.sqrt(size) for s in np.flatnonzero(there)}
            total = sum(math.exp(score) for score in scores.values())
            for s, score in scores.items():
                mixed[part] += math.exp(score) / total * v[s, part]
        y = slow_norm(x[t] + w["attended.weight"] @ mixed + w["attended.bias"])
        wide = w["widen.weight"] @ y + w["widen.bias"]
        wide = np.array([0.5 * z * (1 + math.erf(z / math.sqrt(2))) for z in wide])
        out[t] = slow_norm(y + w["narrow.weight"] @ wide + w["narrow.bias"])
    return out


def test_a_layer_is_attention_and_a_feed_forward_network() -> None:
    torch.manual_seed(0)
    layer = Layer(12, heads=2)
    x = torch.randn(3, T, 12)
    there = np.array([[0, 0, 1, 1, 1, 1], [1] * 6, [0, 0, 0, 0, 0, 1]], dtype=np.bool_)
    bias = torch.where(torch.from_numpy(there), 0.0, -1e9)[:, None, None, :]
    found = layer(x, bias, 0.0).detach().numpy()
    for sample in range(3):
        expected = slow_layer(layer, x[sample].numpy().astype(np.float64), there[sample])
        np.testing.assert_allclose(found[sample], expected, rtol=1e-4, atol=1e-5)


def test_padding_is_not_attended_to(encoder: Encoder) -> None:
    items = torch.tensor([[0, 0, 3, 4, 5, 6]])
    before = encoder(items)[:, 2:]
    with torch.no_grad():
        encoder.positions[:2] += 10.0  # only padding is there
    torch.testing.assert_close(encoder(items)[:, 2:], before)
    with torch.no_grad():
        encoder.positions[2] += torch.arange(12.0)
    assert not torch.allclose(encoder(items)[:, 3:], before[:, 1:], atol=1e-3)


def test_a_click_sees_later_ones_too(encoder: Encoder) -> None:
    one, other = torch.tensor([[3, 4, 5, 6, 7, 8]]), torch.tensor([[3, 4, 5, 6, 7, 9]])
    assert not torch.allclose(encoder(one)[0, 0], encoder(other)[0, 0], atol=1e-6)


def test_a_hidden_click_shows_neither_item_nor_attributes(encoder: Encoder) -> None:
    hidden = torch.tensor([[False, True, False, False, False, True]])
    one, other = torch.tensor([[3, 4, 5, 6, 7, 8]]), torch.tensor([[3, 14, 5, 6, 7, 19]])
    torch.testing.assert_close(encoder(one, hidden), encoder(other, hidden))
    assert not torch.allclose(encoder(one), encoder(other))


def test_a_user_without_behaviours_has_a_finite_encoding(encoder: Encoder) -> None:
    assert torch.isfinite(encoder(torch.zeros(2, T, dtype=torch.int64))).all()


def test_a_fifth_of_the_clicks_is_hidden_and_no_padding() -> None:
    windows = np.ones((4000, 10), dtype=np.int64)
    windows[:, :3] = 0
    hidden = hide(windows, 0.2, np.random.default_rng(0))
    assert not hidden[:, :3].any()
    np.testing.assert_allclose(hidden[:, 3:].mean(axis=0), 0.2, atol=0.02)
    both = (hidden[:, 3] & hidden[:, 4]).mean()
    assert both == pytest.approx(0.04, abs=0.01)


def test_an_encoder_is_read_as_it_was_saved(encoder: Encoder, tmp_path: Path) -> None:
    encoder.train()
    save_encoder(encoder, OPTIONS, tmp_path / "encoder.pt")
    found = load_encoder(tmp_path / "encoder.pt", Options)
    assert not found.training
    assert found.dropout == OPTIONS.pretrain_dropout
    torch.testing.assert_close(dict(found.state_dict()), dict(encoder.state_dict()), rtol=0, atol=0)
    items = torch.tensor([[0, 0, 3, 4, 5, 6]])
    assert torch.equal(found(items), encoder.eval()(items))


@pytest.mark.parametrize("saved", [[], {"options": {}, "weights": {}}, {"options": {"x": 1}}])
def test_a_file_of_something_else_is_no_encoder(saved: object, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "encoder.pt")
    with pytest.raises(EncoderError, match=r"^encoder .*encoder.pt: is damaged .*run again$"):
        load_encoder(tmp_path / "encoder.pt", Options)


def test_code_in_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    save_hostile(tmp_path / "encoder.pt")
    problem = "encoder.pt holds other things than tensors and plain values.*run again$"
    with pytest.raises(EncoderError, match=problem):
        load_encoder(tmp_path / "encoder.pt", Options)


def test_every_window_is_learned_from_once_per_epoch(data: Data) -> None:
    weight = torch.nn.Parameter(torch.zeros(()))
    seen: list[np.ndarray] = []

    def loss(part: np.ndarray) -> torch.Tensor:
        seen.append(part)
        return (weight - 1.0) ** 2

    found = windows(data, (1, 2, 3))
    optimise([weight], found, loss, OPTIONS, np.random.default_rng(0))
    lines = sorted(np.concatenate(seen).tolist())
    assert lines == sorted(OPTIONS.epochs * found.tolist())
    assert weight.item() > 0


def test_without_gain_it_starts_as_base_with_pretrained_tables(
    data: Data, encoder: Encoder
) -> None:
    options = Options(feature_dim=4, hidden=(16, 8), context_gain=0.0)
    model = EncodedBase(data.sizes, options, encoder)
    set_item_tables(model.features, data.features)
    items, behaviours = inputs(data.sub_domain(4), np.arange(5))
    keys = model.keys(behaviours)
    assert keys.shape == (5, T, 12)
    torch.testing.assert_close(keys, encoder.features.behaviours(behaviours))
    assert model(items, behaviours).shape == (5,)
    with torch.no_grad():
        model.gain.fill_(1.0)
    context = model.encoder.eval()(behaviours)
    torch.testing.assert_close(model.keys(behaviours), keys + context)


def test_tables_that_grew_keep_fresh_rows_for_new_ids(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log")
    early, late = Data(log, 4, behaviours=T), Data(log, 5, behaviours=T)
    encoder = make_encoder(early, OPTIONS)
    model = EncodedBase(late.sizes, OPTIONS, encoder)
    known = early.sizes.items
    assert late.sizes.items > known
    table = model.features.item.weight
    torch.testing.assert_close(table[:known], encoder.features.item.weight)
    assert (table[known:] != 0).all()


def test_training_changes_a_copy_and_repeats_itself(data: Data, encoder: Encoder) -> None:
    options = BERT4REC.options(feature_dim=4, hidden=(16, 8), dropout=0.2)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first, second = (BERT4REC.train(data, (4,), options, 3, side_input=encoder) for _ in range(2))
    torch.testing.assert_close(dict(encoder.state_dict()), before)
    test = data.sub_domain(5)
    np.testing.assert_array_equal(first.score(test), second.score(test))
    assert first.score(test).shape == (len(test),)
    model = first.model
    assert isinstance(model, EncodedBase)
    assert not torch.equal(model.encoder.positions, encoder.positions)


def test_the_grid_is_twelve_fine_tunings_of_one_encoder() -> None:
    start = BERT4REC.options(embedding_std=0.1)
    trials = BERT4REC.grid(start)
    assert len(set(trials)) == 12
    fine_tuning = ("batch_size", "learning_rate", "context_gain")
    for trial in trials:
        shared = {name: value for name, value in vars(trial).items() if name not in fine_tuning}
        assert shared == {name: vars(start)[name] for name in shared}
    assert {trial.batch_size for trial in trials} == {
        t.batch_size for t in BASE.grid(BASE.options())
    }
