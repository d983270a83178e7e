"""KEEP: Base with super-domain knowledge plugged into it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from gkc.arrays import F32
from keep.data import Data, Samples
from keep.losses import point_loss
from keep.plugin import Concatenation, KnowledgeInput, PlugIn
from keep.systems import base
from keep.systems.training import Ints, fit, inputs, labels, score, seeded

Knowledge = Callable[[Samples], F32]
"""Impressions to their knowledge, shape (n, width), float32, row by row."""


@dataclass(frozen=True, kw_only=True)
class Options(base.Options):
    """How Base and its plug-in are built and trained."""

    plug_in_hidden: int = 32
    """Width of the plug-in network's hidden layer."""
    plugging: Literal["add", "concat"] = "add"
    """``add``: the plug-in network of equation 5; ``concat``: knowledge joins the first layer's
    inputs, for comparison."""


def grid(best: base.Options) -> tuple[Options, ...]:
    """List what is tried on the tuning day.

    Parameters
    ----------
    best : base.Options
        The options of Base that were found best.

    Returns
    -------
    tuple of Options
        Six: of its twelve trials, three go to pretraining and three to the students.
    """
    return tuple(
        Options(
            **{**vars(best), "batch_size": batch_size, "learning_rate": rate},
            plug_in_hidden=hidden,
        )
        for (batch_size, hidden), rate in product(((64, 32), (64, 128), (128, 32)), (0.001, 0.003))
    )


class KeepRanker:
    """A trained Base with its plug-in.

    Parameters
    ----------
    model : base.Base
        Trained.
    plug_in : KnowledgeInput
        Attached to it.
    knowledge : Knowledge
        What it was trained with.
    """

    def __init__(self, model: base.Base, plug_in: KnowledgeInput, knowledge: Knowledge) -> None:
        self.model = model
        self.plug_in = plug_in
        self.knowledge = knowledge

    def score(self, samples: Samples, knowledge: Knowledge | None = None) -> F32:
        """Score impressions.

        Parameters
        ----------
        samples : Samples
            n impressions of a day.
        knowledge : Knowledge, optional
            What is served instead of what the model was trained with.

        Returns
        -------
        ndarray, shape (n,), float32
            Logits.
        """
        self.model.eval()
        rows = (knowledge or self.knowledge)(samples)

        def logits(part: Samples, positions: Ints) -> Tensor:
            self.plug_in.feed(torch.from_numpy(rows[positions]))
            scored: Tensor = self.model(*inputs(part, positions))
            return scored

        return score(samples, logits)


def train(
    data: Data,
    days: Sequence[int],
    options: Options,
    seed: int,
    task: int = 0,
    *,
    knowledge: Knowledge,
    start: base.Base | None = None,
) -> KeepRanker:
    """Train Base with knowledge plugged into its first layer.

    Parameters
    ----------
    data : Data
        The log.
    days : sequence of int
        Training days, ascending.
    options : Options
        Settings.
    seed : int
        Of initial weights and order; Base's are those that it has alone.
    task : int
        Position in ``TASKS``: what is predicted.
    knowledge : Knowledge
        Of one version, frozen before the first training day.
    start : base.Base, optional
        A trained Base to plug into; a copy of it is trained on. Fresh if left out.

    Returns
    -------
    KeepRanker
        The trained model.

    References
    ----------
    KEEP (CIKM'22), section 4.3.
    """
    model = base.make(data, options, seed) if start is None else copy.deepcopy(start)
    training = [data.sub_domain(day).of_task(task) for day in days]
    rows = {samples.number: knowledge(samples) for samples in training}
    width = next(iter(rows.values())).shape[1]
    with seeded(seed):
        plug_in = make_plug_in(width, model, options)
    plug_in.standardise(torch.from_numpy(np.concatenate(list(rows.values()))))
    plug_in.attach(model.first_layer)

    def loss(samples: Samples, positions: Ints) -> Tensor:
        plug_in.feed(torch.from_numpy(rows[samples.number][positions]))
        logits = model(*inputs(samples, positions))
        return point_loss(logits, labels(samples, positions, task))

    model.train()
    fit([*model.parameters(), *plug_in.parameters()], training, loss, options, seed)
    return KeepRanker(model, plug_in, knowledge)


def make_plug_in(width: int, model: base.Base, options: Options) -> KnowledgeInput:
    """Make what takes knowledge to Base's first layer; it is not attached yet.

    Parameters
    ----------
    width : int
        Columns of the knowledge.
    model : base.Base
        The model that it is made for.
    options : Options
        Which way of plugging, and its width.

    Returns
    -------
    KnowledgeInput
        Fresh, drawn from torch's own generator.
    """
    layer = model.first_layer
    assert isinstance(layer, nn.Linear)
    if options.plugging == "concat":
        return Concatenation(width, layer)
    return PlugIn(width, layer.out_features, options.plug_in_hidden)
