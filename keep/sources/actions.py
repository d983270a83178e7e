"""From logs of actions (clicks, carts, purchases) to logs of impressions, by one stated rule.

Public shop logs hold what users did, not what they were shown. Per user, item and calendar day
there is one clicked impression, at the time of the first action; cart and conversion join it.
Impressions that were not clicked are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gkc.arrays import I64, Bools
from keep.errors import LogSchemaError, SourceFormatError
from keep.log import LAST_SECOND, TOO_LATE, Columns, LogInfo
from keep.log_writer import LogWriter
from keep.sources.csv_batches import refuse
from keep.sources.spill import DaySpill, split_days, stray_days

CLICK, CART, CONVERSION, LEFT_OUT = 0, 1, 2, -1
"""Kinds of actions; the last have no part in the mapping."""

SCENES = ("other", "sub-domain")
SECONDS_A_DAY = 86_400
CHINA_OFFSET_SECONDS = 8 * 3600
"""Both shops' days are days of China Standard Time, UTC+8, which has no summer time."""

FIRST_LIKELY_DAY = 730
"""1972-01-01. A log that ends before has its times in minutes, in days or as 20171125."""

POSITIVES_AT_ONCE = 500_000
"""Clicked impressions for which others are drawn in one go: bounds memory."""
REDRAWS = 8
"""How often an item that the user clicked that day is drawn anew before it is given up."""
SUB_DOMAIN_SHARE = 0.2
"""Share of clicks that the default sub-domain has at least."""

RULE = (
    "The source records actions only. Per user, item and calendar day (UTC+8) there is one "
    "clicked impression, at the time of the first action; cart and conversion are true if the user "
    "also put the item into the cart or bought it that day (a cart or a purchase without a click "
    "counts as clicked). For each, {negatives} impressions that were not clicked are drawn, at the "
    "same time, from that day's items in proportion to their clicked impressions, leaving out "
    "items that the user clicked that day and repetitions, seed {seed}. Days are numbered from "
    "1 = {first_date}. Sub-domain: items of {categories}. The last day is the test day, up to two "
    "days before it train, all before those pretrain."
)

Bounds = tuple[int | None, int | None]


@dataclass(frozen=True)
class ActionOptions:
    """How actions become impressions."""

    negatives: int = 4
    """Impressions drawn per clicked one."""
    seed: int = 0
    """Seed of the draw; the same seed gives the same log."""
    sub_domain_categories: tuple[int, ...] = ()
    """Categories of the sub-domain; by default the most clicked ones, until they have a fifth."""


@dataclass(frozen=True)
class ActionSource:
    """A public log of actions: what the log made from it says of it, and what its files call."""

    name: str
    source: str
    """What was read, and how; the rule is added to it."""
    citation: str
    licence: str
    time_column: str
    too_late: str = TOO_LATE
    """What is said of a time that cannot be."""


class ActionBatch(NamedTuple):
    """Lines of a source's file, one after another."""

    file: Path
    line: int
    """The first one, from 1."""
    columns: Columns
    """``user``, ``item``, ``shop``, ``category``, ``time`` (Unix seconds), (n,) int64 each, and
    ``kind``, (n,) int8: ``CLICK``, ``CART``, ``CONVERSION`` or ``LEFT_OUT``."""


def calendar_day(time: I64) -> I64:
    """Return calendar days of UTC+8, numbered from 0 = 1970-01-01, of (n,) Unix seconds."""
    # Days and seconds apart, since a time and the offset together may be beyond int64.
    day = time // SECONDS_A_DAY
    return day + (time % SECONDS_A_DAY + CHINA_OFFSET_SECONDS) // SECONDS_A_DAY


def within(day: I64, bounds: Bounds) -> Bools:
    """Tell which days, (n,), lie within bounds, both included; None is no bound."""
    first, last = bounds
    inside = np.ones(len(day), dtype=np.bool_)
    if first is not None:
        inside &= day >= first
    if last is not None:
        inside &= day <= last
    return inside


def import_actions(
    source: ActionSource,
    batches: Iterable[ActionBatch],
    files: Sequence[Path],
    out: Path,
    options: ActionOptions,
    bounds: Bounds,
) -> int:
    """Write a log from the actions of some files; return how many lie outside the bounds.

    Bounds are the first and last calendar day (UTC+8, days since 1970) that is kept.

    Raises
    ------
    SourceFormatError
        If a time is before 1970 or after 2099, or a few wrong timestamps would decide the log's
        days.
    LogSchemaError, LogPathTakenError
        If the log cannot be written.
    """
    outside = 0
    with DaySpill(out) as spill:
        for file, line, columns in batches:
            time = columns["time"]
            day = calendar_day(time)
            inside = within(day, bounds)  # the others are left out, whatever their time
            outside += int((~inside).sum())
            reason, column = "is before 1970; use --first-date", source.time_column
            refuse(file, line, inside & (time < 0), reason, column)
            reason = f"{source.too_late}; if only a few are wrong, use --last-date"
            refuse(file, line, inside & (time >= LAST_SECOND), reason, column)
            kept = inside & (columns["kind"] != LEFT_OUT)
            table = pa.table({name: values[kept] for name, values in columns.items()})
            spill.add(file, day[kept], table)
        check_days(files[0], spill, bounds, outside)
        _write_log(source, spill, options, out)
    return outside


def check_days(source: Path, spill: DaySpill, bounds: Bounds, outside: int) -> None:
    """Refuse days that only a few wrong timestamps are of; an end that was chosen is not judged.

    Raises
    ------
    SourceFormatError
        If an end of the log is of hardly any row, no row is within the bounds, or all are of 1970
        and 1971.
    """
    rows = spill.rows()
    if outside and not rows:
        reason = f"all {outside:,} rows are outside of --first-date and --last-date"
        raise SourceFormatError(source, f"{reason}, or of actions that are left out")
    if rows and bounds[0] is None and max(rows) < FIRST_LIKELY_DAY:
        raise SourceFormatError(
            source,
            f"all {sum(rows.values()):,} actions are of {_iso(min(rows))} to {_iso(max(rows))}: "
            "times are seconds since 1970, not minutes, days or dates; if they are right, keep "
            f"them by --first-date {_iso(min(rows))}",
        )
    for end, chosen in zip(("first", "last"), bounds, strict=True):
        strays = stray_days(rows, last=end == "last") if rows and chosen is None else []
        if strays:
            kept = [day for day in rows if day not in strays]
            bound = min(kept) if end == "first" else max(kept)
            few = sum(rows[day] for day in strays)
            raise SourceFormatError(
                source,
                f"only {few:,} of {sum(rows.values()):,} actions are "
                f"{'before' if end == 'first' else 'after'} {_iso(bound)}, as far as "
                f"{_iso(strays[0])}; wrong timestamps would decide which days train and test: "
                f"leave them out by --{end}-date {_iso(bound)}, or keep them by "
                f"--{end}-date {_iso(strays[0])}",
            )


def _write_log(source: ActionSource, spill: DaySpill, options: ActionOptions, out: Path) -> None:
    """Turn actions into impressions and write the log, one day in memory at a time."""
    days = spill.days()
    if not days:
        raise LogSchemaError(out, "there is not one action to make it from")
    first = days[0]
    numbers = tuple(day - first + 1 for day in days)
    categories = options.sub_domain_categories or _most_clicked_categories(spill)
    with LogWriter(out, _info(source, options, numbers, first, categories)) as writer:
        for day, number in zip(days, numbers, strict=True):
            rng = np.random.default_rng([options.seed, day])
            clicked = clicked_impressions(spill.columns(day))
            for part in with_drawn(clicked, options.negatives, rng):
                part["scene"] = np.isin(part["category"], categories).astype(np.int32)
                writer.write(number, part, SCENES)


def clicked_impressions(actions: Columns) -> Columns:
    """Join a day's actions, in the order of the source, into one impression per user and item.

    They have the columns of the schema but day and scene, by user, then time, then order in the
    source.
    """
    order = np.lexsort((actions["time"], actions["item"], actions["user"]))
    user, item = actions["user"][order], actions["item"][order]
    starts = np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])]
    firsts = order[starts]
    group = np.cumsum(starts) - 1
    kind = actions["kind"][order]
    columns = {name: actions[name][firsts] for name in ("user", "item", "shop", "category", "time")}
    columns["click"] = np.ones(len(firsts), dtype=np.bool_)
    for name, code in (("cart", CART), ("conversion", CONVERSION)):
        columns[name] = np.bincount(group[kind == code], minlength=len(firsts)) > 0
    order = np.lexsort((firsts, columns["time"], columns["user"]))
    return {name: column[order] for name, column in columns.items()}


def with_drawn(clicked: Columns, negatives: int, rng: np.random.Generator) -> Iterator[Columns]:
    """Add impressions that were not clicked to a day's clicked ones, which are sorted by user.

    At most ``negatives`` are drawn for each, without repetitions, and follow it. The day comes in
    parts, of some users each.
    """
    items, first, counts = np.unique(clicked["item"], return_index=True, return_counts=True)
    cumulative = np.cumsum(counts)
    codes = np.searchsorted(items, clicked["item"])
    users = np.cumsum(np.r_[0, clicked["user"][1:] != clicked["user"][:-1]])  # dense, no overflow
    start = 0
    while start < len(users):
        end = min(start + POSITIVES_AT_ONCE, len(users))
        end = int(np.searchsorted(users, users[end - 1], side="right"))
        owner = np.repeat(np.arange(start, end), negatives)
        drawn = _draw(users, codes, owner, slice(start, end), cumulative, rng)
        kept = _distinct(users[owner], drawn, len(items))
        owner, drawn = owner[kept], drawn[kept]
        yield _merged(clicked, slice(start, end), owner, first[drawn])
        start = end


def _draw(
    users: I64,
    codes: I64,
    owner: I64,
    part: slice,
    cumulative: I64,
    rng: np.random.Generator,
) -> I64:
    """Draw an item code for each owner row, -1 where only items that its user clicked came."""
    count = len(cumulative)
    clicked = np.sort(users[part] * count + codes[part])
    drawn = np.full(len(owner), -1, dtype=np.int64)
    open_rows = np.arange(len(owner))
    for _ in range(1 + REDRAWS):
        pick = rng.integers(0, cumulative[-1], size=len(open_rows))
        code = np.searchsorted(cumulative, pick, side="right")
        key = users[owner[open_rows]] * count + code
        spot = np.minimum(np.searchsorted(clicked, key), len(clicked) - 1)
        free = clicked[spot] != key
        drawn[open_rows[free]] = code[free]
        open_rows = open_rows[~free]
    return drawn


def _distinct(users: I64, drawn: I64, count: int) -> I64:
    """Return the positions of the first of each user and drawn item, in order."""
    first: I64 = np.sort(np.unique(users * (count + 1) + drawn, return_index=True)[1])
    kept: I64 = first[drawn[first] >= 0]
    return kept


def _merged(clicked: Columns, part: slice, owner: I64, like: I64) -> Columns:
    """Put drawn impressions behind the clicked ones that they were drawn for."""
    order = np.argsort(np.r_[np.arange(part.start, part.stop), owner], kind="stable")
    merged: Columns = {}
    for name, column in clicked.items():
        if name in ("user", "time"):
            added = column[owner]
        elif name in ("item", "shop", "category"):
            added = column[like]
        else:
            added = np.zeros(len(owner), dtype=np.bool_)
        merged[name] = np.r_[column[part], added][order]
    return merged


def _most_clicked_categories(spill: DaySpill) -> tuple[int, ...]:
    """Take categories, most clicked first, until they have a fifth of the clicked impressions."""
    totals: dict[int, int] = {}
    for day in spill.days():
        category = clicked_impressions(spill.columns(day))["category"]
        values, counts = np.unique(category, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            totals[value] = totals.get(value, 0) + count
    ranked = sorted(totals, key=lambda category: (-totals[category], category))
    reached = np.cumsum([totals[category] for category in ranked])
    enough = int(np.searchsorted(reached, SUB_DOMAIN_SHARE * sum(totals.values())))
    return tuple(ranked[: enough + 1])


def _info(
    source: ActionSource,
    options: ActionOptions,
    numbers: tuple[int, ...],
    first: int,
    categories: tuple[int, ...],
) -> LogInfo:
    pretrain_until, train_days, test_day = split_days(numbers)
    rule = RULE.format(
        negatives=options.negatives,
        seed=options.seed,
        first_date=_iso(first),
        categories=_named(options, categories),
    )
    return LogInfo(
        name=source.name,
        source=f"{source.source} {rule}",
        sub_domain_scenes=(SCENES[1],),
        pretrain_until=pretrain_until,
        train_days=train_days,
        test_day=test_day,
        citation=source.citation,
        licence=source.licence,
        seed=options.seed,
        params={
            "negatives": options.negatives,
            "first_date": _iso(first),
            "sub_domain_categories": list(categories),
        },
    )


def _named(options: ActionOptions, categories: tuple[int, ...]) -> str:
    if options.sub_domain_categories:
        return f"the chosen categories {', '.join(map(str, categories))}"
    return (
        f"the {len(categories)} most clicked categories, taken until they have "
        f"{SUB_DOMAIN_SHARE:.0%} of the clicked impressions"
    )


def _iso(day: int) -> str:
    return f"{datetime.fromtimestamp(day * SECONDS_A_DAY, UTC):%Y-%m-%d}"
