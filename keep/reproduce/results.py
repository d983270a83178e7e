"""From stored predictions to ``results.json``: GAUC, lift and interval of every row, and facts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keep.atomic import json_values, write_text
from keep.reproduce.paper import PAPER
from keep.reproduce.predictions import prediction_path, read_predictions, slug
from keep.reproduce.statistics import (
    Lift,
    UserScores,
    gauc_per_seed,
    paired_lift,
    ratio_of_lifts,
    user_scores,
)

FORMAT = "keep-reproduction/1"
"""What ``results.json`` says it is."""

RESULTS_FILE = "results.json"
COLLAPSED = 0.005
"""A GAUC nearer to a half than this is that of a model that ranks by chance."""
DIGITS = 6
"""Decimals of every figure in ``results.json``."""


@dataclass(frozen=True)
class PlannedRow:
    """A row that a table is to have, whose predictions are stored."""

    name: str
    base: str | None
    """Name under which the predictions lie that its lift is to; need not be a row of the table
    (tables 5 and 7: ``CTR Base``). None for the base itself, whose lift is 0."""
    paper: str | None = None
    """Its row in ``PAPER``; None where the paper has none."""
    against: tuple[str, ...] = ()
    """Further rows of the table that it is compared with, paired."""
    share_of: str | None = None
    """Row of the table whose lift its lift is given as a share of."""
    deterministic: bool = False
    """Whether it involves no chance: one score, stored under the first seed."""
    note: str = ""
    """What a reader must know of it, a clause."""


Plan = Mapping[str, Sequence[PlannedRow]]
"""Rows by table."""


def has_collapsed(gauc: Iterable[float | None]) -> bool:
    """Tell whether a trial, one GAUC a seed, ranked by chance under one of them, and so was none.

    A GAUC that does not exist, NaN or None, tells nothing.
    """
    return any(value is not None and abs(value - 0.5) < COLLAPSED for value in gauc)


def build_results(directory: Path, plan: Plan, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the tables from the seeds' predictions, which lie where ``prediction_path`` says.

    They come as ``results.json`` holds them: ``format``, the facts, and ``tables``, by the paper's
    number, each with its ``rows``. JSON values only; the same predictions give the same figures.

    Parameters
    ----------
    facts : mapping
        What stands beside the figures; of them ``seeds``, the reported ones, are used here.

    Raises
    ------
    PredictionsError
        If a file of predictions is missing or broken.
    UnpairedError
        If two rows that are compared rank different impressions.
    ValueError
        If two rows of a table would lie in one directory.
    """
    tables = {
        number: {"rows": _table(directory, number, rows, facts["seeds"])}
        for number, rows in plan.items()
    }
    values = json_values({"format": FORMAT, **facts})
    return {**values, "tables": json_values(tables, DIGITS)}


def write_results(directory: Path, results: Mapping[str, Any]) -> Path:
    """Write ``results.json``, whole or not at all."""
    path = directory / RESULTS_FILE
    text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")
    return path


def _table(
    directory: Path, number: str, planned: Sequence[PlannedRow], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    bases = {row.base for row in planned if row.base is not None}
    names = [row.name for row in planned]
    unlisted = sorted(bases - set(names))
    places = [slug(name) for name in [*names, *unlisted]]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        raise ValueError(f"table {number} has several rows that lie in {', '.join(twice)}")

    scores = {name: _scores(directory, number, name, seeds) for name in unlisted}
    for row in planned:
        own_seeds = seeds[:1] if row.deterministic else seeds
        scores[row.name] = _scores(directory, number, row.name, own_seeds)
    return [_row(number, row, scores) for row in planned]


def _scores(directory: Path, number: str, name: str, seeds: Sequence[int]) -> UserScores:
    paths = {seed: prediction_path(directory, number, name, seed) for seed in seeds}
    return user_scores({seed: read_predictions(path) for seed, path in paths.items()})


def _row(number: str, planned: PlannedRow, scores: Mapping[str, UserScores]) -> dict[str, Any]:
    """Compute a row of a table; figures that do not exist are NaN.

    Returns
    -------
    dict
        ``name``; ``gauc``, one for each seed, a single one for a row without chance; ``lift``, the
        mean over seeds of the difference to ``base``, paired; its 95 % ``interval``, bootstrap over
        users and seeds; ``paper``, ``gauc`` and ``lift`` as the paper has them; ``base`` and
        ``base_gauc``, for each seed; ``users`` with both classes, and their ``impressions``;
        ``against``, ``lift`` and ``interval`` to other rows, by their name; ``share``: ``of`` (a
        row), ``value`` and ``interval``, this lift as a share of that row's; ``note``.
    """
    ranked = scores[planned.name]
    base = None if planned.base is None else scores[planned.base]
    lift = Lift(0.0, 0.0, 0.0, ()) if base is None else paired_lift(ranked, base)
    paper = None if planned.paper is None else PAPER[number][planned.paper]
    against = {name: paired_lift(ranked, scores[name]) for name in planned.against}
    return {
        "name": planned.name,
        "gauc": gauc_per_seed(ranked).tolist(),
        "lift": lift.mean,
        "interval": (lift.low, lift.high),
        "paper": None if paper is None else dataclasses.asdict(paper),
        "base": planned.base,
        "base_gauc": None if base is None else gauc_per_seed(base).tolist(),
        "users": len(ranked.users),
        "impressions": int(ranked.impressions.sum()),
        "against": {
            name: {"lift": over.mean, "interval": (over.low, over.high)}
            for name, over in against.items()
        },
        "share": _share(planned, scores),
        "note": _note(planned, ranked),
    }


def _share(planned: PlannedRow, scores: Mapping[str, UserScores]) -> dict[str, Any] | None:
    if planned.share_of is None or planned.base is None:
        return None
    ratio = ratio_of_lifts(scores[planned.name], scores[planned.share_of], scores[planned.base])
    return {"of": planned.share_of, "value": ratio.value, "interval": (ratio.low, ratio.high)}


def _note(planned: PlannedRow, ranked: UserScores) -> str:
    notes = [planned.note] if planned.note else []
    if planned.deterministic:
        notes.append("one score, paired with every seed")
    if not len(ranked.users):
        notes.append("no user has both classes, so there is no GAUC")
    return "; ".join(notes)
