"""Compare downstream models without and with knowledge on the test day of the sub-domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gkc.arrays import F32, I64
from keep.checkpoint import Pretraining
from keep.data import Data, Samples
from keep.gauc import Gauc, gauc
from keep.knowledge import knowledge_of
from keep.log import Log
from keep.models import score_clicks
from keep.popularity import popularity
from keep.systems.base import BASE
from keep.systems.plugged import KEEP, Options, Plugged
from keep.threads import one_thread_each

Served = Callable[[I64, I64, I64], F32]
"""Users, items and categories (raw ids, one entry per row) to knowledge rows (equation 6)."""


@dataclass(frozen=True)
class Result:
    """One ranking of the test day."""

    name: str
    gauc: tuple[Gauc, ...]
    """One per seed; a single one where no seed is involved."""
    lifts: tuple[float, ...] = ()
    """GAUC minus that of the downstream model without knowledge, seed by seed."""

    @property
    def value(self) -> float:
        """Mean GAUC over the seeds."""
        return float(np.mean([of_seed.value for of_seed in self.gauc]))


def evaluate(
    log: Log,
    state: Pretraining,
    served: Served,
    train_days: Sequence[int],
    test_day: int,
    seeds: Sequence[int] = (1,),
    options: Options | None = None,
) -> list[Result]:
    """Rank the test day's impressions of the sub-domain in six ways.

    The downstream model's behaviours are the super-domain clicks of earlier days, so that what
    knowledge adds is not merely the sight of other scenes' clicks. Knowledge is that of the
    checkpoint's day, on every day alike. The control trains without knowledge on every day of the
    sub-domain before the test. The test day is read by nothing but the ranking. Seeds fix initial
    weights and order of the downstream models, the same with and without knowledge.

    Returns
    -------
    list of Result
        Popularity, teacher, downstream, with the teacher's knowledge, as served, and the control.

    References
    ----------
    KEEP (CIKM'22), sections 4.3, 6.1 and equation 7.
    """
    data = Data(log, test_day)
    days = {number: data.sub_domain(number) for number in (*data.days, test_day)}
    test = days[test_day]
    used = [days[number] for number in (*train_days, test_day)]
    extracted = {samples.number: knowledge_of(state, samples.day) for samples in used}
    answered = {samples.number: served(*samples.day.ids) for samples in used}
    user, click = test.day.user, test.day.click
    popular = gauc(user, click, popularity(log, state.day, test.day))
    rows = state.features.encode(test.day)
    taught = gauc(user, click, score_clicks(state.models.teacher, rows, state.features))
    downstream = _Downstream(data, test, options or Options(), seeds)
    alone = downstream.ranked("downstream, no knowledge", train_days)
    return [
        Result("item click rate", (popular,)),
        Result("teacher's click logit", (taught,)),
        alone,
        downstream.ranked("downstream + teacher's K(u, i)", train_days, alone, extracted),
        downstream.ranked("downstream + knowledge as served", train_days, alone, answered),
        downstream.ranked("control: downstream, all days", data.days, alone),
    ]


@dataclass(frozen=True)
class _Downstream:
    """A downstream model, trained with every seed."""

    data: Data
    test: Samples
    options: Options
    seeds: Sequence[int]

    def ranked(
        self,
        name: str,
        days: Sequence[int],
        alone: Result | None = None,
        knowledge: Mapping[int, F32] | None = None,
    ) -> Result:
        """Train on some days, with each day's rows of knowledge if there is any, and rank."""
        with one_thread_each(len(self.seeds)) as pool:
            scores = list(pool.map(lambda seed: self._scores(days, seed, knowledge), self.seeds))
        day = self.test.day
        by_seed = tuple(gauc(day.user, day.click, of_seed) for of_seed in scores)
        if alone is None:
            return Result(name, by_seed)
        pairs = zip(by_seed, alone.gauc, strict=True)
        return Result(name, by_seed, tuple(ours.value - theirs.value for ours, theirs in pairs))

    def _scores(self, days: Sequence[int], seed: int, knowledge: Mapping[int, F32] | None) -> F32:
        if knowledge is None:
            return BASE.train(self.data, days, self.options, seed).score(self.test)
        plugged = Plugged(lambda samples: knowledge[samples.number])
        return KEEP.train(self.data, days, self.options, seed, side_input=plugged).score(self.test)


def report(results: Sequence[Result]) -> str:
    """Put the comparison in a table."""
    seeds = max(len(result.gauc) for result in results)
    lines = [f"{'ranking of the test day':<36}{'GAUC':>8}{'lift':>9}"]
    for result in results:
        lift = f"{np.mean(result.lifts):>+9.4f}" if result.lifts else ""
        lines.append(f"{result.name:<36}{result.value:>8.4f}{lift}")
    first = results[0].gauc[0]
    lines.append(
        f"mean of {seeds} seeds, lift over the downstream model without knowledge; positive rate "
        f"{first.positive_rate:.3f}; {first.users:,} users count with {first.impressions:,} "
        f"impressions, "
        f"{first.users_left_out:,} users of one class are left out"
    )
    return "\n".join(lines)
