"""From the runs' predictions to those of the tables' rows, several of which may be one run's."""

from __future__ import annotations

import os
from collections.abc import Sequence

from keep.reproduce.jobs import Test
from keep.reproduce.plan import Entries
from keep.reproduce.predictions import prediction_path, read_predictions, write_predictions
from keep.reproduce.workshop import Workshop


def store_predictions(shop: Workshop, entries: Entries, seeds: Sequence[int]) -> None:
    """Lay the runs' predictions where the contract wants them, one file per row and seed."""
    for table, rows in entries.items():
        for entry in rows:
            for seed in seeds if entry.run.has_seed else seeds[:1]:
                source = Test(entry.run, seed).file(shop.out)
                target = prediction_path(shop.out, table, entry.row.name, seed)
                if target.exists():
                    continue
                if entry.group is None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(source, target)
                    continue
                whole = read_predictions(source)
                inside = entry.group.members(shop, whole.user)
                write_predictions(target, *(column[inside] for column in vars(whole).values()))
