"""KEEP: Base with super-domain knowledge plugged into it.

References
----------
KEEP (CIKM'22), section 4.3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from gkc.arrays import F32, I64
from keep.data import Data, Samples
from keep.losses import point_loss
from keep.plugin import Concatenation, KnowledgeInput, PlugIn
from keep.systems import base
from keep.systems.base import Base
from keep.systems.system import (
    Lesson,
    Step,
    System,
    every,
    fit_progressively,
    inputs,
    labels,
    one_pass,
    score,
    seeded,
)

Plugging = Literal["add", "concat", "concat anew"]

Knowledge = Callable[[Samples], F32]
"""Impressions to their knowledge, shape (n, width), float32, row by row."""


@dataclass(frozen=True, kw_only=True)
class Options(base.Options):
    """How Base and its plug-in are built and trained."""

    plug_in_hidden: int = 32
    """Width of the plug-in network's hidden layer."""
    plugging: Plugging = "add"
    """``add``: the plug-in network of equation 5. For comparison, ``concat``: knowledge joins the
    layer's inputs; ``concat anew``: and the layer's own weights are drawn anew."""
    layer: int = 1
    """The m of equation 5, a hidden layer of Base's MLP; the paper does not name it."""
    after_activation: bool = False
    """Whether h_m is what the layer's ReLU puts out, not what goes into it."""

    def __post_init__(self) -> None:
        """Check that there is such a place."""
        if not 1 <= self.layer <= len(self.hidden):
            raise ValueError(f"layer {self.layer} is none of Base's {len(self.hidden)} hidden ones")
        if self.plugging != "add" and self.after_activation:
            raise ValueError("knowledge joins a layer's inputs: after_activation is of add alone")


@dataclass(frozen=True)
class Plugged:
    """What is plugged in, and into what."""

    knowledge: Knowledge
    """Of one version, frozen before the first training day."""
    start: Base | None = None
    """A trained Base, of which a copy is trained on; a fresh one if left out."""


class KeepRanker:
    """A Base with its plug-in attached, and the knowledge it is trained with."""

    def __init__(self, model: Base, plug_in: KnowledgeInput, knowledge: Knowledge) -> None:
        self.model = model
        self.plug_in = plug_in
        self.knowledge = knowledge

    def parameters(self) -> Iterable[nn.Parameter]:
        """List what is trained."""
        return [*self.model.parameters(), *self.plug_in.parameters()]

    def score(self, samples: Samples, knowledge: Knowledge | None = None) -> F32:
        """Score n impressions of a day: (n,) logits.

        ``knowledge`` is what is served instead of what the model was trained with.
        """
        self.model.eval()
        rows = (knowledge or self.knowledge)(samples)
        return score(samples, lambda part, positions: self.logits(part, positions, rows))

    def logits(self, samples: Samples, positions: I64, rows: F32) -> Tensor:
        """Score some impressions of a day, given the knowledge of all of it."""
        self.plug_in.feed(torch.from_numpy(rows[positions]))
        logits: Tensor = self.model(*inputs(samples, positions))
        return logits


def build(lesson: Lesson[Options, Plugged]) -> tuple[KeepRanker, Step]:
    """Make a Base, whose weights are those that it has alone, and a fresh plug-in for it."""
    plugged = lesson.side_input
    if plugged.start is None:
        model = base.make(lesson.data, lesson.options, lesson.seed)
    else:
        model = copy.deepcopy(plugged.start)
    rows = {samples.number: plugged.knowledge(samples) for samples in lesson.sub_domain()}
    width = next(iter(rows.values())).shape[1]
    with seeded(lesson.seed):
        plug_in = plug_into(model, width, lesson.options)
    plug_in.standardise(torch.from_numpy(np.concatenate(list(rows.values()))))
    ranker = KeepRanker(model, plug_in, plugged.knowledge)

    def loss(samples: Samples, positions: I64) -> Tensor:
        logits = ranker.logits(samples, positions, rows[samples.number])
        return point_loss(logits, labels(samples, positions, lesson.task))

    return ranker, loss


def go_on(data: Data, samples: Samples, options: Options, seed: int, plugged: Plugged) -> F32:
    """Train on with a day's n impressions; return their logits from before each was learned."""
    lesson = Lesson(data, (samples.number,), options, seed, 0, plugged)
    ranker, _ = build(lesson)
    ranker.model.train()
    rows = plugged.knowledge(samples)
    return fit_progressively(
        ranker.parameters(),
        samples,
        lambda day, positions: ranker.logits(day, positions, rows),
        options,
        seed,
    )


def plug_into(model: Base, width: int, options: Options) -> KnowledgeInput:
    """Attach to a Base what takes knowledge of ``width`` columns to its layer.

    It is drawn from torch's own generator.
    """
    layer = model.hidden_layer(options.layer)
    plug_in: KnowledgeInput
    if options.plugging == "add":
        plug_in = PlugIn(width, layer.out_features, options.plug_in_hidden)
    else:
        plug_in = Concatenation(width, layer, anew=options.plugging == "concat anew")
    plug_in.attach(model.activation(options.layer) if options.after_activation else layer)
    return plug_in


KEEP = System(
    options=Options,
    # Six: of its twelve trials, three go to pretraining and three to the students.
    tried=tuple(
        {"batch_size": batch_size, "plug_in_hidden": hidden, **rate}
        for batch_size, hidden in ((64, 32), (64, 128), (128, 32))
        for rate in every(learning_rate=(0.001, 0.003))
    ),
    learn=one_pass(build, Lesson.sub_domain),
    takes=Plugged,
)
