"""The plug-in network: add knowledge to any torch model without touching the model.

Five lines are enough::

    plug_in = PlugIn(knowledge_width, layer.out_features)
    plug_in.standardise(training_knowledge)
    plug_in.attach(layer)                 # h_m: what this layer of the model puts out
    optimizer.add_param_group({"params": plug_in.parameters()})
    ...
    plug_in.feed(knowledge_of_batch)      # before each call of the model
    logits = model(batch)

The model is not wrapped and gets no new parameter: its own checkpoints load strictly as before,
and the plug-in's parameters are the plug-in's. Knowledge and model may be of any floating type;
devices are the caller's affair, as everywhere in torch.

Attach before ``torch.compile``, which does not see later hooks. What is exported must take the
knowledge as an input of its own: export a module whose ``forward`` feeds, then calls the model. A
copy of a plugged model has a plug-in of its own; copy both together to keep hold of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

MINIMUM_STD = 1e-3
"""Columns that vary less in training carry nothing and are silenced, not blown up."""


class KnowledgeInput(nn.Module):
    """What plug-ins have in common: standardised knowledge whose projection is added to a layer.

    Subclasses say in ``forward`` how knowledge is projected.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, knowledge_width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(knowledge_width))
        self.register_buffer("scale", torch.ones(knowledge_width))
        self._fed: Tensor | None = None
        self._used = False

    def standardise(self, knowledge: Tensor) -> None:
        """Take mean and standard deviation of the training knowledge into the plug-in's state.

        Parameters
        ----------
        knowledge : Tensor, shape (n, knowledge_width), float32
            Knowledge of training rows only, never of test rows.

        Raises
        ------
        ValueError
            If it has another width than the knowledge that this was made for, is empty, or holds
            a number that is not finite.
        """
        self._check_width(knowledge)
        if len(knowledge) == 0 or not bool(torch.isfinite(knowledge).all()):
            raise ValueError("training knowledge must have rows, and finite numbers only")
        std, mean = torch.std_mean(knowledge.to(self.mean.dtype), dim=0, correction=0)
        self.set_statistics(mean, std)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take statistics that were computed elsewhere, as for knowledge too large for memory.

        They are (knowledge_width,), of the training knowledge's columns.
        """
        silent = std < MINIMUM_STD
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(silent, 0.0, 1.0 / std.clamp(min=MINIMUM_STD)))

    def attach(self, layer: nn.Module) -> RemovableHandle:
        """Add to what a layer of any model puts out; several plug-ins may share a layer.

        It usually is the model's first hidden linear layer, so that h_m is its pre-activation.
        ``remove()`` of what is returned unplugs it.
        """
        return layer.register_forward_hook(self._add)

    def feed(self, knowledge: Tensor) -> None:
        """Hand over the knowledge of the rows that the model will be called with next.

        Parameters
        ----------
        knowledge : Tensor, shape (B, knowledge_width), float32
            One row per row of the coming batch; used once.

        Raises
        ------
        ValueError
            If it has another width than the knowledge that this was made for.
        RuntimeError
            If knowledge was fed before and none has ever reached a layer.
        """
        self._check_width(knowledge)
        if self._fed is not None and not self._used:
            self._fed = None
            raise RuntimeError(
                "knowledge was fed and nothing has used it: attach the plug-in to a layer that the "
                "model calls, and before torch.compile"
            )
        self._fed = knowledge

    def standard(self, knowledge: Tensor) -> Tensor:
        """Standardise knowledge, shape (B, knowledge_width), by the training statistics."""
        return (knowledge.to(self.mean.dtype) - self.mean) * self.scale

    def _check_width(self, knowledge: Tensor) -> None:
        width = len(self.mean)
        if knowledge.dim() != 2 or knowledge.shape[1] != width:
            raise ValueError(
                f"knowledge must be of shape (B, {width}), not {tuple(knowledge.shape)}"
            )

    def _add(self, layer: nn.Module, arguments: tuple[Any, ...], h_m: Tensor) -> Tensor:
        """Return h_m + h^k in place of the layer's output, once per ``feed``."""
        if self._fed is None:
            raise RuntimeError("the model was called before plug_in.feed(knowledge) of its batch")
        knowledge, self._fed, self._used = self._fed, None, True
        if len(knowledge) != len(h_m):
            raise RuntimeError(
                f"plug_in.feed was given {len(knowledge)} rows for a batch of {len(h_m)}"
            )
        h_k: Tensor = self(knowledge)
        if h_k.shape != h_m.shape:  # adding would broadcast
            raise RuntimeError(
                f"the layer puts out {tuple(h_m.shape)}, its knowledge is {tuple(h_k.shape)}"
            )
        return h_m + h_k.to(h_m.dtype)


class PlugIn(KnowledgeInput):
    """A shallow MLP of standardised knowledge whose output is added to a layer's output h_m.

    The last layer starts at zero, so that at the first step the model's output is unchanged.

    References
    ----------
    KEEP (CIKM'22), section 4.3, equation 5.
    """

    def __init__(self, knowledge_width: int, layer_width: int, hidden: int = 128) -> None:
        super().__init__(knowledge_width)
        self.hidden = nn.Linear(knowledge_width, hidden)
        self.output = nn.Linear(hidden, layer_width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, knowledge: Tensor) -> Tensor:
        """Project knowledge as stored to h^k of equation 5, (B, layer_width)."""
        h_k: Tensor = self.output(torch.relu(self.hidden(self.standard(knowledge))))
        return h_k


class Concatenation(KnowledgeInput):
    """Knowledge as further inputs of a linear layer: what the plug-in is compared with.

    A layer over [x, K] is W x + b + W_K K. The model keeps W and b, this module holds W_K, which
    starts as the wider layer's would. So the model's output is another one from the first step
    on, which is why the paper adds instead. With ``anew`` W and b start so, too, as they must
    where a model's code cannot keep a part of a layer.

    References
    ----------
    KEEP (CIKM'22), section 4.3: "the simplest way".
    """

    def __init__(self, knowledge_width: int, layer: nn.Linear, anew: bool = False) -> None:
        super().__init__(knowledge_width)
        self.weight = nn.Parameter(torch.empty(layer.out_features, knowledge_width))
        bound = (layer.in_features + knowledge_width) ** -0.5
        for parameter in (self.weight, layer.weight, layer.bias)[: 3 if anew else 1]:
            nn.init.uniform_(parameter, -bound, bound)  # as nn.Linear starts

    def forward(self, knowledge: Tensor) -> Tensor:
        """Compute W_K K, (B, layer_width), from knowledge as stored, (B, knowledge_width)."""
        return functional.linear(self.standard(knowledge), self.weight)
