"""What the compared systems are held against: rankings that no downstream model makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gkc.arrays import F32
from keep.data import Samples
from keep.models import score_clicks
from keep.popularity import popularity
from keep.reproduce.workshop import Workshop


@dataclass(frozen=True)
class Control:
    """A ranking, and whether chance is in it."""

    score: Callable[[Workshop, int, Samples], F32]
    """A reproduction, a seed and n impressions of the test day to (n,) scores."""
    has_seed: bool = False
    """Without chance there is a single score, whatever the seed."""


def teacher_scores(shop: Workshop, name: str, test: Samples) -> F32:
    """Rank by the click logit of a pretraining's teacher, with behaviours up to its day: (n,)."""
    state = shop.state(name)
    rows = state.features.encode(test.day)
    return score_clicks(state.models.teacher, rows, state.features)


CONTROLS: Mapping[str, Control] = {
    "teacher": Control(
        lambda shop, seed, test: teacher_scores(shop, shop.teacher_of(seed), test), has_seed=True
    ),
    "item_rate": Control(lambda shop, _, test: popularity(shop.log, shop.version_day, test.day)),
    "oracle": Control(lambda shop, _, test: shop.truth(test)),
}
