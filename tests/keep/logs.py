"""Small logs for tests of what reads and writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keep.log import Log, LogInfo, open_log
from keep.log_writer import LogWriter

SCENES = ("home", "ads")
INFO = LogInfo(
    name="tiny",
    source="made by a test",
    sub_domain_scenes=("ads",),
    pretrain_until=1,
    train_days=(2,),
    test_day=4,
)
DAYS = (1, 2, 4)


def columns(rows: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Draw impressions that fit the schema."""
    rng = np.random.default_rng(seed)
    click = rng.random(rows) < 0.5
    ids = {name: rng.integers(-50, 50, rows) for name in ("user", "item", "shop", "category")}
    return {
        **ids,
        "time": np.sort(rng.integers(0, 10**9, rows)),
        "scene": rng.integers(0, len(SCENES), rows),
        "click": click,
        "cart": click & (rng.random(rows) < 0.5),
        "conversion": click & (rng.random(rows) < 0.5),
    }


def write_tiny_log(path: Path, rows: int = 20, info: LogInfo = INFO) -> Log:
    """Write a log of three days, one of them after a gap."""
    with LogWriter(path, info) as writer:
        for day in DAYS:
            writer.write(day, columns(rows, seed=day), SCENES)
    return open_log(path)
