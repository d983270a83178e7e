"""CoNet: a source and a target network whose hidden layers feed each other by cross units."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from gkc.arrays import I64
from keep.data import Samples
from keep.layers import TableSizes, mlp
from keep.systems import base
from keep.systems.base import Base, BaseRanker, fitted
from keep.systems.system import Lesson, Step, System, every, inputs, labels, one_pass


@dataclass(frozen=True, kw_only=True)
class Options(base.SuperDomainOptions):
    """How CoNet is built and trained."""

    source_weight: float = 1.0
    """Weight of a source impression's loss; a target impression's is 1."""


def cross_unit(width_in: int, width_out: int) -> nn.Linear:
    """Make the matrix H that carries one network's layer over to the next one of the other.

    It has no bias and is nearly zero, so that the networks start apart.
    """
    unit = nn.Linear(width_in, width_out, bias=False)
    nn.init.normal_(unit.weight, 0.0, 0.01)
    return unit


class CoNet(Base):
    """Base's features, an MLP for each domain, and cross units between their hidden layers.

    Base's own MLP is the target's network.

    Notes
    -----
    CoNet shares the users' embeddings and gives each domain its own items, because its domains
    have no item in common. Here they have, and a user's behaviours are items too, so embeddings,
    attention and co-action are shared. CoNet is fed pairs (user, source item, target item); with
    items in common an impression is its own pair: in training as in ranking it goes through both
    networks, and its label teaches that of its own domain. So each label is learned once, and a
    test impression needs no made-up source partner.

    References
    ----------
    CoNet (CIKM'18), as cited in KEEP (CIKM'22) [10]; KEEP, section 6.2.
    """

    def __init__(self, sizes: TableSizes, options: Options) -> None:
        super().__init__(sizes, options)
        widths = (self.interaction_width, *options.hidden)
        self.source = mlp((*widths, 1))
        self.cross = nn.ModuleList(cross_unit(*shape) for shape in pairwise(widths))

    def networks(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Run both networks side by side, (B, interaction_width) each to (B,) logits.

        A hidden layer of the target is relu(W_t h_t + b_t + H h_s), of the source
        relu(W_s h_s + b_s + H h_t): one H for both directions.

        References
        ----------
        CoNet (CIKM'18), its cross connections unit, as cited in KEEP (CIKM'22) [10].
        """
        for layer, unit in enumerate(self.cross):
            of_source, of_target = self.source[2 * layer], self.mlp[2 * layer]
            source, target = (
                torch.relu(of_source(source) + unit(target)),
                torch.relu(of_target(target) + unit(source)),
            )
        return self.source[-1](source).squeeze(-1), self.mlp[-1](target).squeeze(-1)

    def both(self, items: Tensor, behaviours: Tensor) -> tuple[Tensor, Tensor]:
        """Score impressions in both domains: (B,) logits of source and target."""
        seen = self.interaction(items, behaviours)
        return self.networks(seen, seen)

    def forward(self, items: Tensor, behaviours: Tensor) -> Tensor:
        """Score impressions in the target domain: (B,) logits."""
        return self.both(items, behaviours)[1]


def build(lesson: Lesson[Options, None]) -> tuple[BaseRanker[CoNet], Step]:
    """Make a fresh CoNet: the sub-domain is the target, the other scenes are the source."""
    model = fitted(CoNet(lesson.data.sizes, lesson.options), lesson.data)

    def loss(samples: Samples, positions: I64) -> Tensor:
        source, target = model.both(*inputs(samples, positions))
        is_target = torch.from_numpy(samples.day.sub_domain[positions])
        return functional.binary_cross_entropy_with_logits(
            torch.where(is_target, target, source),
            labels(samples, positions, lesson.task),
            weight=torch.where(is_target, 1.0, lesson.options.source_weight),
        )

    return BaseRanker(model), loss


CONET = System(
    options=Options,
    tried=every(batch_size=(128, 512), learning_rate=(0.001, 0.003), source_weight=(0.3, 1.0, 3.0)),
    learn=one_pass(build, Lesson.super_domain),
)
