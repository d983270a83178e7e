"""Compare downstream models without and with knowledge on the test day of the sub-domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from keep.checkpoint import Pretraining
from keep.downstream import (
    Downstream,
    DownstreamConfig,
    Samples,
    make_samples,
    score_downstream,
    train_downstream,
)
from keep.features import Features
from keep.gauc import Gauc, gauc
from keep.log import Day, Log
from keep.models import score_clicks, set_item_tables, table_sizes
from keep.plugin import PlugIn
from keep.threads import one_thread_each

F32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Served = Callable[[Ints, Ints, Ints], F32]
"""Users, items and categories (raw ids, one entry per row) to knowledge rows (equation 6)."""

SMOOTHING = 20.0
"""Impressions at the mean rate that popularity adds to every item."""


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
        return float(np.mean([one.value for one in self.gauc]))


def evaluate(
    log: Log,
    state: Pretraining,
    served: Served,
    train_days: Sequence[int],
    test_day: int,
    seeds: Sequence[int] = (1,),
    config: DownstreamConfig | None = None,
) -> list[Result]:
    """Rank the test day's impressions of the sub-domain in six ways.

    The downstream model's behaviours are the super-domain clicks of earlier days, so that what
    knowledge adds is not merely the sight of other scenes' clicks. Knowledge is that of the
    checkpoint's day, on every day alike. The control trains without knowledge on every day of the
    sub-domain before the test.

    Parameters
    ----------
    log : Log
        Super- and sub-domain.
    state : Pretraining
        The checkpoint that the served version was made from.
    served : callable
        Answers with served knowledge.
    train_days : sequence of int
        The downstream model's training days, ascending.
    test_day : int
        The day that is ranked; read by nothing else.
    seeds : sequence of int
        Initial weights and order of the downstream models; the same with and without knowledge.
    config : DownstreamConfig, optional
        Defaults if left out.

    Returns
    -------
    list of Result
        Popularity, teacher, downstream, with the teacher's knowledge, as served, and the control.

    References
    ----------
    KEEP (CIKM'22), sections 4.3, 6.1 and equation 7.
    """
    config = config or DownstreamConfig()
    test = sub_domain(log.day(test_day))
    data = _downstream_data(log, config, test_day)
    days = {number: sub_domain(log.day(number)) for number in (*train_days, test_day)}
    extracted = {number: teacher_knowledge(state, day) for number, day in days.items()}
    answered = {number: served(day.user, day.item, day.category) for number, day in days.items()}
    before_test = [number for number in data.days if number < test_day]

    def ranked(
        name: str, numbers: Sequence[int], base: Result | None, knowledge: dict[int, F32] | None
    ) -> Result:
        configs = [replace(config, seed=seed) for seed in seeds]
        scores = _train_and_score(data, numbers, test_day, configs, knowledge)
        found = [gauc(test.user, test.click, one) for one in scores]
        if base is None:
            return Result(name, tuple(found))
        pairs = zip(found, base.gauc, strict=True)
        return Result(name, tuple(found), tuple(one.value - other.value for one, other in pairs))

    popular = gauc(test.user, test.click, popularity(log, state.day, test))
    rows = state.features.encode(test)
    taught = gauc(test.user, test.click, score_clicks(state.models.teacher, rows, state.features))
    base = ranked("downstream, no knowledge", train_days, None, None)
    return [
        Result("item click rate", (popular,)),
        Result("teacher's click logit", (taught,)),
        base,
        ranked("downstream + teacher's K(u, i)", train_days, base, extracted),
        ranked("downstream + knowledge as served", train_days, base, answered),
        ranked("control: downstream, all days", before_test, base, None),
    ]


def sub_domain(day: Day) -> Day:
    """Keep a day's impressions of the sub-domain.

    Parameters
    ----------
    day : Day
        All impressions.

    Returns
    -------
    Day
        In the same order.
    """
    return Day(**{name: column[day.sub_domain] for name, column in vars(day).items()})


def popularity(log: Log, until: int, test: Day) -> F32:
    """Score impressions by their item's click rate, drawn towards the mean where it is rare.

    Parameters
    ----------
    log : Log
        The super-domain.
    until : int
        The last day that is counted.
    test : Day
        Impressions to score.

    Returns
    -------
    ndarray, shape (n,), float32
        Smoothed click rates.
    """
    days = [log.day(number) for number in log.info.days if number <= until]
    items = np.concatenate([day.item for day in days])
    clicks = np.concatenate([day.click for day in days])
    known, inverse = np.unique(items, return_inverse=True)
    shown = np.bincount(inverse, minlength=len(known))
    clicked = np.bincount(inverse, weights=clicks, minlength=len(known))
    mean = clicks.mean()
    rate = (clicked + SMOOTHING * mean) / (shown + SMOOTHING)
    spot = np.minimum(np.searchsorted(known, test.item), len(known) - 1)
    scores: F32 = np.where(known[spot] == test.item, rate[spot], mean).astype(np.float32)
    return scores


def teacher_knowledge(state: Pretraining, day: Day, batch_size: int = 4096) -> F32:
    """Read the teacher's knowledge of impressions, with behaviours up to the checkpoint's day.

    Parameters
    ----------
    state : Pretraining
        A checkpoint.
    day : Day
        Impressions.
    batch_size : int
        Rows computed together.

    Returns
    -------
    ndarray, shape (n, width), float32
        K(u, i).

    References
    ----------
    KEEP (CIKM'22), equation 4.
    """
    rows = state.features.encode(day)
    state.models.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            user = rows.user[start : start + batch_size]
            behaviours = state.features.history[user].astype(np.int64)
            knowledge = state.models.teacher.knowledge(
                torch.from_numpy(user),
                torch.from_numpy(behaviours),
                torch.from_numpy(rows.item[start : start + batch_size]),
            )
            parts.append(knowledge.numpy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class _DownstreamData:
    """The sub-domain by day, joined with the behaviours of earlier days."""

    features: Features
    days: dict[int, Samples]


def _downstream_data(log: Log, config: DownstreamConfig, test_day: int) -> _DownstreamData:
    features = Features(config.behaviours)
    days = {}
    for number in log.info.days:
        if number > test_day:
            break
        day = log.day(number)
        if number < test_day:  # ids that only the test day has stay unknown
            features.grow(day)
        days[number] = make_samples(features.encode(sub_domain(day)), features)
        if number < test_day:
            features.observe(day)
    return _DownstreamData(features, days)


def _train_and_score(
    data: _DownstreamData,
    numbers: Sequence[int],
    test_day: int,
    configs: Sequence[DownstreamConfig],
    knowledge: dict[int, F32] | None,
) -> list[F32]:
    """Train a downstream model per configuration, each in its own thread; score the test day."""
    training = None if knowledge is None else [knowledge[number] for number in numbers]
    # Models are made one after another: torch's generator of initial weights is shared.
    made = [_make(data, config, training) for config in configs]

    def fit(number: int) -> F32:
        model, plug_in = made[number]
        days = [data.days[day] for day in numbers]
        train_downstream(days, model, configs[number], plug_in, training)
        tested = None if knowledge is None else knowledge[test_day]
        return score_downstream(data.days[test_day], model, plug_in, tested)

    with one_thread_each(len(configs)) as pool:
        return list(pool.map(fit, range(len(configs))))


def _make(
    data: _DownstreamData, config: DownstreamConfig, training: list[F32] | None
) -> tuple[Downstream, PlugIn | None]:
    """Make a downstream model, the same with and without knowledge, and its plug-in."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = Downstream(table_sizes(data.features), config)
        set_item_tables(model.features, data.features)
        if training is None:
            return model, None
        plug_in = PlugIn(training[0].shape[1], config.hidden[0], config.plug_in_hidden)
    plug_in.standardise(torch.from_numpy(np.concatenate(training)))
    plug_in.attach(model.mlp[0])
    return model, plug_in


def report(results: Sequence[Result]) -> str:
    """Put the comparison in a table.

    Parameters
    ----------
    results : sequence of Result
        As ``evaluate`` returns them.

    Returns
    -------
    str
        One line per ranking, and below what the figures were counted over.
    """
    seeds = max(len(result.gauc) for result in results)
    lines = [f"{'ranking of the test day':<36}{'GAUC':>8}{'lift':>9}"]
    for result in results:
        lift = f"{np.mean(result.lifts):>+9.4f}" if result.lifts else ""
        lines.append(f"{result.name:<36}{result.value:>8.4f}{lift}")
    one = results[0].gauc[0]
    lines.append(
        f"mean of {seeds} seeds, lift over the downstream model without knowledge; positive rate "
        f"{one.positive_rate:.3f}; {one.users:,} users count with {one.impressions:,} impressions, "
        f"{one.users_left_out:,} users of one class are left out"
    )
    return "\n".join(lines)
