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
    for narrow in (torch.randn(9), torch.randn(9, 1)):  # would broadcast into the statistics
        with pytest.raises(ValueError, match=r"shape \(B, 4\)"):
            plug_in.standardise(narrow)


@pytest.mark.parametrize(
    ("layer", "x"),
    [(nn.Linear(6, 1), torch.randn(5, 6)), (nn.Linear(6, 10), torch.randn(5, 5, 6))],
    ids=["one column", "a row per position"],
)
def test_a_layer_that_it_would_broadcast_to_is_refused(layer: nn.Linear, x: Tensor) -> None:
    plug_in = PlugIn(4, 10)
    plug_in.attach(layer)
    plug_in.feed(torch.randn(5, 4))
    with pytest.raises(RuntimeError, match=r"the layer puts out \(5, .*knowledge is \(5, 10\)"):
        layer(x)


def test_knowledge_that_reaches_no_layer_is_noticed(model: nn.Sequential) -> None:
    plug_in, x, knowledge = PlugIn(4, 10), torch.randn(5, 6), torch.randn(5, 4)
    plug_in.feed(knowledge)
    model(x)
    with pytest.raises(RuntimeError, match="attach the plug-in"):
        plug_in.feed(knowledge)
    plug_in.attach(model[0])
    plug_in.feed(knowledge)
    model(x)


def test_a_call_that_failed_does_not_spoil_the_next(model: nn.Sequential) -> None:
    plug_in, x, knowledge = plugged(model), torch.randn(5, 6), torch.randn(5, 4)
    plug_in.feed(knowledge)
    expected = model(x)
    plug_in.feed(torch.randn(3, 4))  # and the model never came to its layer
    plug_in.feed(knowledge)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("knowledge_type", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("model_type", [torch.bfloat16, torch.float32, torch.float64])
def test_floating_types_need_not_agree(
    model: nn.Sequential, knowledge_type: torch.dtype, model_type: torch.dtype
) -> None:
    model, x = model.to(model_type), torch.randn(5, 6).to(model_type)
    knowledge = torch.randn(5, 4).to(knowledge_type)
    before, h_m = model(x), model[0](x)
    plug_in = plugged(model)
    plug_in.standardise(knowledge)
    plug_in.feed(knowledge)
    assert torch.equal(model(x), before)
    nn.init.ones_(plug_in.output.bias)
    plug_in.feed(knowledge)
    after = model[0](x)
    assert after.dtype == model_type
    torch.testing.assert_close(after, h_m + 1)


def test_it_moves_to_a_device_with_its_statistics(model: nn.Sequential) -> None:
    plug_in = plugged(model)
    both = nn.ModuleDict({"model": model, "plug_in": plug_in}).to("meta")
    plug_in.feed(torch.empty(5, 4, device="meta"))
    assert both["model"](torch.empty(5, 6, device="meta")).device.type == "meta"
    assert plug_in.mean.device.type == plug_in.scale.device.type == "meta"


class Whole(nn.Module):
    """Feeds and calls, as the module's docstring says for what is compiled or exported."""

    def __init__(self, model: nn.Module, plug_in: PlugIn) -> None:
        super().__init__()
        self.model, self.plug_in = model, plug_in

    def forward(self, x: Tensor, knowledge: Tensor) -> Tensor:
        self.plug_in.feed(knowledge)
        scored: Tensor = self.model(x)
        return scored


@pytest.mark.parametrize("way", ["compile", "export"])
def test_a_module_that_feeds_and_calls_compiles_and_exports(model: nn.Sequential, way: str) -> None:
    plug_in = plugged(model)
    nn.init.normal_(plug_in.output.weight)
    whole, x = Whole(model, plug_in), torch.randn(5, 6)
    first, second = torch.randn(5, 4), torch.randn(5, 4)
    expected = [whole(x, knowledge) for knowledge in (first, second)]
    if way == "compile":
        made = torch.compile(whole, backend="eager", fullgraph=True)
    else:
        made = torch.export.export(whole, (x, first)).module()
    for knowledge, scored in zip((first, second), expected, strict=True):
        torch.testing.assert_close(made(x, knowledge), scored)


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


def test_a_layer_that_is_concatenated_to_anew_starts_as_the_wider_one(
    model: nn.Sequential,
) -> None:
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    kept, bound = layer.weight.detach().clone(), (6 + 94) ** -0.5
    Concatenation(94, layer)
    assert torch.equal(layer.weight, kept)
    Concatenation(94, layer, anew=True)
    assert not (layer.weight == kept).any()
    assert max(layer.weight.abs().max(), layer.bias.abs().max()) <= bound
