"""The plug-in network (equation 5)."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from keep.plugin import Concatenation, PlugIn


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 1))


def plugged(model: nn.Sequential, width: int = 4) -> PlugIn:
    plug_in = PlugIn(width, 10, hidden=8)
    plug_in.attach(model[0])
    return plug_in


def test_output_is_unchanged_at_the_first_step(model: nn.Sequential) -> None:
    x, knowledge = torch.randn(5, 6), torch.randn(5, 4)
    before = model(x)
    plug_in = plugged(model)
    plug_in.feed(knowledge)
    assert torch.equal(model(x), before)


def test_adds_its_projection_to_the_layer_s_output(model: nn.Sequential) -> None:
    x, knowledge = torch.randn(5, 6), torch.randn(5, 4)
    plug_in = plugged(model)
    nn.init.normal_(plug_in.output.weight)
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    h_m = layer.weight @ x[0] + layer.bias
    plug_in.feed(knowledge)
    h_prime: Tensor = model[0](x)
    torch.testing.assert_close(h_prime[0], h_m + plug_in(knowledge)[0])


def test_standardises_by_training_statistics_that_are_in_its_state(model: nn.Sequential) -> None:
    rng = np.random.default_rng(0)
    training = torch.from_numpy(rng.normal([1.0, -2, 5, 0], [3.0, 0.5, 0, 1], (400, 4))).float()
    plug_in = plugged(model)
    nn.init.normal_(plug_in.output.weight)
    plug_in.standardise(training)
    mean, std = training.numpy().mean(axis=0), training.numpy().std(axis=0)
    standard = (training.numpy() - mean) / np.where(std < 1e-3, np.inf, std)
    torch.testing.assert_close(
        plug_in(training),
        plug_in.output(torch.relu(plug_in.hidden(torch.from_numpy(standard).float()))),
        rtol=1e-4,
        atol=1e-4,
    )
    other = PlugIn(4, 10, hidden=8)
    other.load_state_dict(plug_in.state_dict())
    torch.testing.assert_close(other(training), plug_in(training))


def test_the_model_s_own_checkpoint_still_loads_strictly(model: nn.Sequential) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plugged(model)
    assert list(model.state_dict()) == list(before)
    model.load_state_dict(before, strict=True)


def test_two_plug_ins_share_a_layer(model: nn.Sequential) -> None:
    x, first, second = torch.randn(5, 6), torch.randn(5, 4), torch.randn(5, 3)
    plain = model[0](x)
    one, two = plugged(model, 4), plugged(model, 3)
    for plug_in in (one, two):
        nn.init.normal_(plug_in.output.weight)
    one.feed(first)
    two.feed(second)
    torch.testing.assert_close(model[0](x), plain + one(first) + two(second))


def test_knowledge_is_used_once_and_asked_for(model: nn.Sequential) -> None:
    x = torch.randn(5, 6)
    plug_in = plugged(model)
    plug_in.feed(torch.randn(5, 4))
    model(x)
    with pytest.raises(RuntimeError, match="feed"):
        model(x)


def test_it_can_be_unplugged(model: nn.Sequential) -> None:
    x = torch.randn(5, 6)
    before = model(x)
    PlugIn(4, 10).attach(model[0]).remove()
    assert torch.equal(model(x), before)


def test_it_learns(model: nn.Sequential) -> None:
    torch.manual_seed(1)
    x, knowledge = torch.zeros(64, 6), torch.randn(64, 4)
    target = knowledge[:, 0]
    plug_in = plugged(model)
    optimizer = torch.optim.Adam([*model.parameters(), *plug_in.parameters()], lr=0.02)
    losses = []
    for _ in range(20):
        plug_in.feed(knowledge)
        loss = ((model(x).squeeze(-1) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_equation_5_in_plain_numpy(model: nn.Sequential) -> None:
    rng = np.random.default_rng(0)
    training, knowledge = rng.normal(2.0, 3.0, (50, 4)), rng.normal(2.0, 3.0, (5, 4))
    x = rng.normal(size=(5, 6))
    plug_in = plugged(model)
    nn.init.normal_(plug_in.output.weight)
    plug_in.standardise(torch.from_numpy(training).float())
    w = {name: tensor.detach().numpy() for name, tensor in plug_in.state_dict().items()}
    m = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    expected = np.empty((5, 10))
    for row in range(5):
        standard = (knowledge[row] - training.mean(axis=0)) / training.std(axis=0)
        hidden = np.maximum(w["hidden.weight"] @ standard + w["hidden.bias"], 0.0)
        h_k = w["output.weight"] @ hidden + w["output.bias"]
        expected[row] = m["0.weight"] @ x[row] + m["0.bias"] + h_k
    plug_in.feed(torch.from_numpy(knowledge).float())
    found = model[0](torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_any_layer_of_any_model_takes_a_plug_in() -> None:
    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lower, self.upper = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            found: Tensor = self.upper(torch.relu(self.lower(batch["x"])))
            return found

    model, batch = Theirs(), {"x": torch.randn(5, 3)}
    before = model(batch)
    plug_in = PlugIn(7, 2)
    plug_in.attach(model.upper)
    plug_in.feed(torch.randn(5, 7))
    assert torch.equal(model(batch), before)
    nn.init.ones_(plug_in.output.bias)
    plug_in.feed(torch.randn(5, 7))
    torch.testing.assert_close(model(batch), before + 1)


def test_what_does_not_fit_is_named(model: nn.Sequential) -> None:
    plug_in = plugged(model)
    with pytest.raises(ValueError, match=r"shape \(B, 4\), not \(5, 3\)"):
        plug_in.feed(torch.randn(5, 3))
    plug_in.feed(torch.randn(4, 4))
    with pytest.raises(RuntimeError, match="4 rows for a batch of 5"):
        model(torch.randn(5, 6))
    for wrong in (torch.empty(0, 4), torch.full((3, 4), float("nan"))):
        with pytest.raises(ValueError, match="finite"):
            plug_in.standardise(wrong)


def test_a_plugged_model_can_be_copied_and_its_plug_in_saved(model: nn.Sequential) -> None:
    x, knowledge = torch.randn(5, 6), torch.randn(5, 4)
    plug_in = plugged(model)
    nn.init.normal_(plug_in.output.weight)
    plug_in.feed(knowledge)
    expected = model(x)
    both = copy.deepcopy(nn.ModuleDict({"model": model, "plug_in": plug_in}))
    copied = both["plug_in"]
    assert isinstance(copied, PlugIn)
    copied.feed(knowledge)
    assert torch.equal(both["model"](x), expected)
    file = io.BytesIO()
    torch.save(plug_in.state_dict(), file)
    file.seek(0)
    other = PlugIn(4, 10, hidden=8)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(knowledge), plug_in(knowledge))


def test_concatenation_is_a_wider_layer_s_output(model: nn.Sequential) -> None:
    x, knowledge = torch.randn(5, 6), torch.randn(5, 4)
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    wider = nn.Linear(10, 10)
    concatenation = Concatenation(4, layer)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([layer.weight, concatenation.weight], dim=1))
        wider.bias.copy_(layer.bias)
    concatenation.attach(layer)
    concatenation.feed(knowledge)
    torch.testing.assert_close(layer(x), wider(torch.cat([x, knowledge], dim=1)))
    assert concatenation.weight.abs().max() <= 10**-0.5
