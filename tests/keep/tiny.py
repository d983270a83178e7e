"""A tiny log with taste in it, for tests that train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from keep.config import PretrainConfig
from keep.log import Day, Log, LogInfo, day_file, open_log
from keep.log_writer import LogWriter
from keep.sources.parquet import ParquetOptions, import_parquet

USERS, ITEMS, SHOPS, CATEGORIES, DAYS = 40, 30, 4, 5, 5

CONFIG = PretrainConfig(
    user_dim=6,
    feature_dim=4,
    behaviours=5,
    attention_width=4,
    mlp=(16, 8),
    tower=(12, 8),
    batch_size=64,
)
"""Narrow models that train in a moment."""


def tiny_days(
    flip_from: int = DAYS + 1,
    per_day: int = 400,
    categories: int = CATEGORIES,
    later_seed: int = 0,
) -> dict[int, Day]:
    """Make days 1 to 5; ids are sparse and partly negative; later items appear later.

    Parameters
    ----------
    flip_from : int
        From this day on, every label is turned round.
    per_day : int
        Impressions of a day.
    categories : int
        How many there are; ``ITEMS`` gives each item one of its own.
    later_seed : int
        Draws days 4 and 5 anew.

    Returns
    -------
    dict
        Day number to its impressions.
    """
    days = {}
    for number in range(1, DAYS + 1):
        rng = np.random.default_rng(number + later_seed * (number > 3))
        user = rng.integers(0, USERS, per_day)
        item = rng.integers(0, ITEMS - 2 * (DAYS - number), per_day)
        liked = (user + item % CATEGORIES) % 3 == 0
        click = rng.random(per_day) < np.where(liked, 0.8, 0.3)
        cart = click & (rng.random(per_day) < 0.5)
        conversion = click & (rng.random(per_day) < 0.3)
        if number >= flip_from:
            click, cart, conversion = ~click, ~click & cart, ~click & conversion
        days[number] = Day(
            user=raw_users(user),
            item=1000 + 7 * item,
            shop=100 + item % SHOPS,
            category=10 * (item % categories),
            time=np.sort(rng.integers(0, 1000, per_day)),
            sub_domain=item % 2 == 0,
            click=click,
            cart=cart,
            conversion=conversion,
        )
    return days


def raw_users(user: NDArray[np.int64]) -> NDArray[np.int64]:
    """Spread user numbers over negative and large ids."""
    return (user - 20) * 2**40


def tiny_log(
    path: Path,
    flip_from: int = DAYS + 1,
    pretrain_until: int = 3,
    categories: int = CATEGORIES,
    later_seed: int = 0,
) -> Log:
    """Write those days as a log: pretraining up to day 3, training on day 4, test on day 5.

    Parameters
    ----------
    path : Path
        Directory to make.
    flip_from, categories, later_seed : int
        As for ``tiny_days``.
    pretrain_until : int
        Last day of pretraining; the days between it and the test day train.

    Returns
    -------
    Log
        The log.
    """
    info = LogInfo(
        name="tiny",
        source="made up for tests",
        sub_domain_scenes=("sub",),
        pretrain_until=pretrain_until,
        train_days=tuple(range(pretrain_until + 1, DAYS)),
        test_day=DAYS,
    )
    with LogWriter(path, info) as writer:
        for number, day in tiny_days(
            flip_from, categories=categories, later_seed=later_seed
        ).items():
            columns = {name: column for name, column in vars(day).items() if name != "sub_domain"}
            columns["scene"] = day.sub_domain.astype(np.int32)
            writer.write(number, columns, ("super", "sub"))
    return open_log(path)


def with_strings(log: Log, path: Path) -> Log:
    """Import a log anew, with strings for its users, items and categories: ``user 7``."""
    files = []
    for number in log.info.days:
        table = pq.read_table(day_file(log.path, number), partitioning=None)
        for kind in ("user", "item", "category"):
            names = pa.array([f"{kind} {value}" for value in table[kind].to_pylist()])
            table = table.set_column(table.column_names.index(kind), kind, names)
        files.append(path.with_name(f"{path.name}-{number}.parquet"))
        pq.write_table(table, files[-1])
    import_parquet(files, path, ParquetOptions(sub_domain_scenes=log.info.sub_domain_scenes), int)
    return open_log(path)
