"""What the compared systems are held against: rankings that no downstream model makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gkc.arrays import F32
from keep.data import Samples
from keep.popularity import popularity
from keep.reproduce.workshop import Workshop, click_logits


@dataclass(frozen=True)
class Control:
    """A ranking, and whether chance is in it."""

    score: Callable[[Workshop, int, Samples], F32]
    """A reproduction, a seed and n impressions of the test day to (n,) scores."""
    has_seed: bool = False
    """Then it is that of the seed's teacher; without it there is a single score."""


def _teacher_scores(shop: Workshop, seed: int, test: Samples) -> F32:
    return click_logits(shop.state(shop.teacher_of(seed)), test.day)


def _trained_on_scores(shop: Workshop, seed: int, test: Samples) -> F32:
    days = shop.log.info.train_days
    return click_logits(shop.teacher_trained_on(shop.teacher_of(seed), days), test.day)


CONTROLS: Mapping[str, Control] = {
    "teacher": Control(_teacher_scores, has_seed=True),
    "teacher_trained_on": Control(_trained_on_scores, has_seed=True),
    "item_rate": Control(lambda shop, _, test: popularity(shop.log, shop.version_day, test.day)),
    "oracle": Control(lambda shop, _, test: shop.truth(test)),
}
