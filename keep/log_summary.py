"""What a log holds, in figures that belong beside every result made from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from gkc.arrays import I64, Bools
from keep.gauc import Gauc, gauc
from keep.log import Log


@dataclass(frozen=True)
class Summary:
    """Figures of a log that are not in its ``log.json``."""

    sub_domain_rows: int
    """Impressions of the sub-domain, all days."""
    train_rows: int
    """Impressions of the sub-domain on the training days."""
    train_clicks: int
    test_rows: int
    """Impressions of the sub-domain on the test day."""
    test_clicks: int
    test_users: int
    """Users with an impression of the sub-domain on the test day."""
    users_without_both: int
    """Of these, users with clicks only or with none: GAUC leaves them out."""
    rows_without_both: int
    """Their impressions."""


@dataclass(frozen=True)
class HistoryFacts:
    """How the users' histories lie in time: what cutting them into stretches does to them."""

    shared_second: int
    """Impressions whose second is that of another impression of the same user."""
    median_seconds: float
    """Median over users of the time from the first to the last impression."""
    pretrain_span: tuple[int, int]
    """First and last second of the pretraining days."""
    test_span: tuple[int, int]
    """First and last second of the test day."""
    test_before_pretrain_end: float
    """Share of the test day's impressions that lie before the last pretraining impression."""
    pretrain_after_test_median: float
    """Share of pretraining impressions that lie after the median impression of the test day."""


def summarise(log: Log) -> Summary:
    """Count what the log's own description leaves out, one day in memory at a time.

    Raises
    ------
    LogSchemaError
        If a row breaks the schema: summarising reads and checks every row.
    """
    info, rows, clicks = log.info, {}, {}
    counted: dict[int, Gauc] = {}
    for number in info.days:
        day = log.day(number)
        click = day.click[day.sub_domain]
        rows[number], clicks[number] = len(click), int(click.sum())
        if number == info.test_day:
            counted[number] = gauc(day.user[day.sub_domain], click, np.zeros(len(click)))
    test = counted[info.test_day]
    return Summary(
        sub_domain_rows=sum(rows.values()),
        train_rows=sum(rows[day] for day in info.train_days),
        train_clicks=sum(clicks[day] for day in info.train_days),
        test_rows=rows[info.test_day],
        test_clicks=clicks[info.test_day],
        test_users=test.users + test.users_left_out,
        users_without_both=test.users_left_out,
        rows_without_both=rows[info.test_day] - test.impressions,
    )


def history_facts(log: Log) -> HistoryFacts:
    """Measure ties and the overlap of days in calendar time; holds users and times of all days.

    Raises
    ------
    LogSchemaError
        If a row breaks the schema.
    """
    info = log.info
    days = {number: log.day(number) for number in info.days}
    user = np.concatenate([day.user for day in days.values()])
    time = np.concatenate([day.time for day in days.values()])
    pretrain = np.concatenate(
        [d.time for number, d in days.items() if number <= info.pretrain_until]
    )
    test = days[info.test_day].time
    order = np.lexsort((time, user))
    first = np.flatnonzero(np.r_[True, user[order][1:] != user[order][:-1]])
    last = np.r_[first[1:], len(user)] - 1
    return HistoryFacts(
        shared_second=int(_shared(user[order], time[order]).sum()),
        median_seconds=float(np.median(time[order][last] - time[order][first])),
        pretrain_span=(int(pretrain.min()), int(pretrain.max())),
        test_span=(int(test.min()), int(test.max())),
        test_before_pretrain_end=float((test < pretrain.max()).mean()),
        pretrain_after_test_median=float((pretrain > np.median(test)).mean()),
    )


def describe(log: Log) -> str:
    """Say in a paragraph of figures what a log holds, and how it was made.

    Raises
    ------
    LogSchemaError
        If a row breaks the schema.
    """
    info, facts = log.info, summarise(log)
    days = ", ".join(str(day) for day in info.train_days)
    lines = [
        f"log {info.name}: {log.path}",
        f"rows {info.rows:,}, users {info.users:,}, items {info.items:,}, "
        f"shops {info.shops:,}, categories {info.categories:,}, "
        f"days {info.days[0]}-{info.days[-1]}",
        f"click rate {_share(info.clicks, info.rows)}, "
        f"cart among clicks {_share(info.carts, info.clicks)}, "
        f"conversion among clicks {_share(info.conversions, info.clicks)}",
        f"sub-domain {'+'.join(info.sub_domain_scenes)}: "
        f"{facts.sub_domain_rows:,} rows, {_share(facts.sub_domain_rows, info.rows)} of all",
        f"pretraining: all rows up to day {info.pretrain_until}",
        f"training, sub-domain, days {days}: {facts.train_rows:,} rows, "
        f"click rate {_share(facts.train_clicks, facts.train_rows)}",
        f"test, sub-domain, day {info.test_day}: {facts.test_rows:,} rows, "
        f"click rate {_share(facts.test_clicks, facts.test_rows)}",
        f"GAUC leaves out {facts.users_without_both:,} of {facts.test_users:,} test users "
        f"(clicks only or none), with {_share(facts.rows_without_both, facts.test_rows)} "
        "of the test rows",
        f"checksum of the columns {info.checksum}",
        f"source: {info.source}",
    ]
    lines += [f"licence: {info.licence}"] if info.licence else []
    lines += [f"cite: {info.citation}"] if info.citation else []
    return "\n".join(lines)


def describe_history(log: Log) -> str:
    """Say in figures how the users' histories lie in time.

    Raises
    ------
    LogSchemaError
        If a row breaks the schema.
    """
    info, facts = log.info, history_facts(log)
    return "\n".join(
        [
            f"{_share(facts.shared_second, info.rows)} of rows share their second with another "
            "of the same user",
            f"the median user's history lasts {facts.median_seconds / 60:.0f} minutes",
            f"calendar: days up to {info.pretrain_until} lie in {_dates(facts.pretrain_span)}, "
            f"day {info.test_day} in {_dates(facts.test_span)}; "
            f"{facts.test_before_pretrain_end:.1%} of day {info.test_day} lies before the last "
            f"pretraining row, {facts.pretrain_after_test_median:.1%} of pretraining after the "
            f"median row of day {info.test_day}",
        ]
    )


def _shared(user: I64, time: I64) -> Bools:
    """Tell which rows, sorted by user and time, equal a neighbour in both."""
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    shared: Bools = np.r_[False, same] | np.r_[same, False]
    return shared


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _dates(span: tuple[int, int]) -> str:
    first, last = (datetime.fromtimestamp(second, UTC).date().isoformat() for second in span)
    return f"{first} to {last} (UTC)"
