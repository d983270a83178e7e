"""From stored predictions to ``results.json``: GAUC, lift and interval of every row, and facts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Row:
    """A row of a table in ``results.json``; figures that do not exist are null there."""

    name: str
    gauc: list[float]
    """One for each seed; a single one for a row without chance."""
    lift: float
    """Mean over seeds of the difference to ``base``, paired."""
    interval: tuple[float, float]
    """95 % of the lift, bootstrap over users and seeds."""
    paper: dict[str, float] | None
    """``gauc`` and ``lift`` as the paper has them."""
    base: str | None
    base_gauc: list[float] | None
    """GAUC of ``base`` for each seed."""
    users: int
    """Users with both classes."""
    impressions: int
    """Their impressions."""
    against: dict[str, dict[str, Any]]
    """``lift`` and ``interval`` to other rows, by their name."""
    share: dict[str, Any] | None
    """``of`` (a row), ``value`` and ``interval``: this lift as a share of that row's."""
    note: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What stands beside the figures; JSON values throughout."""

    command: str
    preset: str
    log: Mapping[str, Any]
    """The log's ``LogInfo`` as a mapping: name, checksum, counts, days, parameters."""
    seeds: Sequence[int]
    """Seeds that are reported."""
    tuning_seeds: Sequence[int]
    """Seeds that options were chosen with."""
    tuned: Mapping[str, Mapping[str, Any]]
    """The chosen options by method."""
    trials: Sequence[Mapping[str, Any]]
    """Every trial of the tuning: method, options, seed, day and GAUC."""
    seconds: float
    """Wall time of all stages, those of earlier runs included."""
    machine: str
    date: str
    commit: str
    versions: Mapping[str, str] = field(default_factory=dict)


Plan = Mapping[str, Sequence[PlannedRow]]
"""Rows by table."""


def build_results(directory: Path, plan: Plan, facts: Facts) -> dict[str, Any]:
    """Compute the tables from the seeds' predictions, which lie where ``prediction_path`` says.

    They come as ``results.json`` holds them: ``format``, the facts, and ``tables``, by the paper's
    number, each with its ``rows``. JSON values only; the same predictions give the same figures.

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
        number: {"rows": _table(directory, number, rows, facts.seeds)}
        for number, rows in plan.items()
    }
    values = json_values({"format": FORMAT, **dataclasses.asdict(facts)})
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
    return [dataclasses.asdict(_row(number, row, scores)) for row in planned]


def _scores(directory: Path, number: str, name: str, seeds: Sequence[int]) -> UserScores:
    paths = {seed: prediction_path(directory, number, name, seed) for seed in seeds}
    return user_scores({seed: read_predictions(path) for seed, path in paths.items()})


def _row(number: str, planned: PlannedRow, scores: Mapping[str, UserScores]) -> Row:
    ranked = scores[planned.name]
    base = None if planned.base is None else scores[planned.base]
    lift = Lift(0.0, 0.0, 0.0, ()) if base is None else paired_lift(ranked, base)
    paper = None if planned.paper is None else PAPER[number][planned.paper]
    against = {name: paired_lift(ranked, scores[name]) for name in planned.against}
    return Row(
        name=planned.name,
        gauc=gauc_per_seed(ranked).tolist(),
        lift=lift.mean,
        interval=(lift.low, lift.high),
        paper=None if paper is None else dataclasses.asdict(paper),
        base=planned.base,
        base_gauc=None if base is None else gauc_per_seed(base).tolist(),
        users=len(ranked.users),
        impressions=int(ranked.impressions.sum()),
        against={
            name: {"lift": over.mean, "interval": (over.low, over.high)}
            for name, over in against.items()
        },
        share=_share(planned, scores),
        note=_note(planned, ranked),
    )


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


