"""Settings and logs on which a compared system is trained in a moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keep.data import Data
from keep.log import Day, Log, open_log
from keep.log_writer import LogWriter
from keep.systems import base
from tests.keep.tiny import tiny_days, tiny_log

NARROW: dict[str, Any] = {
    "batch_size": 32,
    "learning_rate": 0.01,
    "feature_dim": 4,
    "attention_width": 4,
    "co_action_feed": 4,
    "co_action_width": 2,
    "hidden": (12, 6),
}

OPTIONS = base.Options(**NARROW)


def tiny_data(path: Path, flip_from: int = 6) -> Data:
    """Make the tiny log, tested on its last day.

    Parameters
    ----------
    path : Path
        An empty directory.
    flip_from : int
        From this day on, every label is turned round.

    Returns
    -------
    Data
        Of five behaviours.
    """
    return Data(tiny_log(path / f"tiny{flip_from}", flip_from), 5, behaviours=5)


def plain_data(path: Path) -> Data:
    """Make the tiny log with a taste that is soon learned: two of five categories are liked.

    Parameters
    ----------
    path : Path
        An empty directory.

    Returns
    -------
    Data
        Of five behaviours.
    """
    days = {}
    for number, day in tiny_days().items():
        rng = np.random.default_rng(number)
        click = rng.random(len(day.item)) < np.where(day.category < 20, 0.9, 0.2)
        days[number] = replace(
            day, click=click, cart=click & day.cart, conversion=click & day.conversion
        )
    return Data(write_log(path / "plain", days, tiny_log(path / "tiny")), 5, behaviours=5)


def write_log(path: Path, days: dict[int, Day], like: Log) -> Log:
    """Write other days than a log's.

    Parameters
    ----------
    path : Path
        Directory to make.
    days : dict
        Day number to its impressions.
    like : Log
        Whose description is taken.

    Returns
    -------
    Log
        The log.
    """
    with LogWriter(path, like.info) as writer:
        for number, day in days.items():
            columns = {name: column for name, column in vars(day).items() if name != "sub_domain"}
            columns["scene"] = day.sub_domain.astype(np.int32)
            writer.write(number, columns, ("super", "sub"))
    return open_log(path)
