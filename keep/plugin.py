"""The plug-in network: add knowledge to any torch model without touching the model.

Five lines are enough::

    plug_in = PlugIn(knowledge_width, layer.out_features)
    plug_in.standardise(training_knowledge)
    plug_in.attach(layer)                 # h_m: what this layer of the model puts out
    ...
    plug_in.feed(knowledge_of_batch)      # before each call of the model
    logits = model(batch)

The model is not wrapped and gets no new parameter: its own checkpoints load strictly as before,
and the plug-in's parameters are the plug-in's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

MINIMUM_STD = 1e-3
"""Columns that vary less in training carry nothing and are silenced, not blown up."""


class PlugIn(nn.Module):
    """A shallow MLP of standardised knowledge whose output is added to a layer's output.

    The last layer starts at zero, so that at the first step the model's output is unchanged.

    Parameters
    ----------
    knowledge_width : int
        Columns of the knowledge.
    layer_width : int
        Width of h_m, the output that the result is added to.
    hidden : int
        Width of the MLP's hidden layer.

    References
    ----------
    KEEP (CIKM'22), section 4.3, equation 5.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, knowledge_width: int, layer_width: int, hidden: int = 128) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(knowledge_width))
        self.register_buffer("scale", torch.ones(knowledge_width))
        self.hidden = nn.Linear(knowledge_width, hidden)
        self.output = nn.Linear(hidden, layer_width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self._fed: Tensor | None = None

    def standardise(self, knowledge: Tensor) -> None:
        """Take mean and standard deviation of the training knowledge into the plug-in's state.

        Parameters
        ----------
        knowledge : Tensor, shape (n, knowledge_width), float32
            Knowledge of training rows only, never of test rows.
        """
        std, mean = torch.std_mean(knowledge, dim=0, correction=0)
        self.set_statistics(mean, std)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take statistics that were computed elsewhere, as for knowledge too large for memory.

        Parameters
        ----------
        mean, std : Tensor, shape (knowledge_width,), float32
            Of the training knowledge's columns.
        """
        silent = std < MINIMUM_STD
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(silent, 0.0, 1.0 / std.clamp(min=MINIMUM_STD)))

    def attach(self, layer: nn.Module) -> RemovableHandle:
        """Add to what a layer of any model puts out; several plug-ins may share a layer.

        Parameters
        ----------
        layer : nn.Module
            Usually the model's first hidden linear layer, so that h_m is its pre-activation.

        Returns
        -------
        RemovableHandle
            ``remove()`` unplugs it.
        """
        return layer.register_forward_hook(self._add)

    def feed(self, knowledge: Tensor) -> None:
        """Hand over the knowledge of the rows that the model will be called with next.

        Parameters
        ----------
        knowledge : Tensor, shape (B, knowledge_width), float32
            One row per row of the coming batch; used once.
        """
        self._fed = knowledge

    def forward(self, knowledge: Tensor) -> Tensor:
        """Project knowledge to the layer's width.

        Parameters
        ----------
        knowledge : Tensor, shape (B, knowledge_width), float32
            As stored, not standardised.

        Returns
        -------
        Tensor, shape (B, layer_width), float32
            h^k of equation 5.
        """
        standard = (knowledge - self.mean) * self.scale
        h_k: Tensor = self.output(torch.relu(self.hidden(standard)))
        return h_k

    def _add(self, layer: nn.Module, arguments: tuple[Any, ...], h_m: Tensor) -> Tensor:
        """Return h_m + h^k in place of the layer's output, once per ``feed``."""
        if self._fed is None:
            raise RuntimeError("the model was called before plug_in.feed(knowledge) of its batch")
        knowledge, self._fed = self._fed, None
        h_k: Tensor = self(knowledge)
        return h_m + h_k
