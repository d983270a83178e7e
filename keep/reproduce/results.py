"""From stored predictions to ``results.json``: GAUC, lift and interval of every row, and facts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keep.atomic import json_values, read_json, write_json, write_text
from keep.reproduce.paper import PAPER
from keep.reproduce.predictions import prediction_path, read_predictions, slug
from keep.reproduce.statistics import (
    Lift,
    UserScores,
    Worlds,
    difference_of_lifts,
    gauc_per_seed,
    paired_lift,
    paired_lifts,
    ratio_of_lifts,
    user_scores,
)

FORMAT = "keep-reproduction/1"
"""What ``results.json`` says it is."""

RESULTS_FILE = "results.json"
ROWS_FILE = "predictions/rows.json"
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
    share_of: tuple[str, ...] = ()
    """Rows of the table with the teacher's knowledge: its lift is given as a share of the best
    one's."""
    transfer_of: str | None = None
    """Row of the teacher itself, trained on: its lift is given as a ratio to that one's, too."""
    gains_less_than: str | None = None
    """Row of other users, in table 7, that in the paper gains more over its base."""
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
    number, each with its ``rows`` and its ``orders``: two rows that the paper has, ``above`` and
    ``below`` as there, and the paired ``lift`` of the one over the other with its ``interval``
    (table 7: of the groups' lifts). JSON values only; the same predictions give the same figures.

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
        number: build_table(number, rows, [row_scores(directory, number, rows, facts["seeds"])])
        for number, rows in plan.items()
    }
    values = json_values({"format": FORMAT, **facts})
    return {**values, "tables": json_values(tables, DIGITS)}


def write_results(directory: Path, results: Mapping[str, Any]) -> Path:
    """Write ``results.json``, whole or not at all."""
    path = directory / RESULTS_FILE
    write_text(path, results_text(results))
    return path


def results_text(results: Mapping[str, Any]) -> str:
    """Put results in strict JSON, always in the same order."""
    text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def write_rows(directory: Path, plan: Plan) -> None:
    """Write beside the predictions which rows they are of, whole or not at all."""
    rows = {number: [dataclasses.asdict(row) for row in rows] for number, rows in plan.items()}
    write_json(directory / ROWS_FILE, rows)


def read_rows(directory: Path) -> Plan:
    """Read what ``write_rows`` wrote; no tables where it wrote nothing."""
    tuples = ("against", "share_of")
    return {
        number: [
            PlannedRow(**{**row, **{name: tuple(row[name]) for name in tuples}}) for row in rows
        ]
        for number, rows in read_json(directory / ROWS_FILE).items()
    }


def row_scores(
    directory: Path, number: str, planned: Sequence[PlannedRow], seeds: Sequence[int]
) -> dict[str, UserScores]:
    """Read the scores of a table's rows in one world, then those of bases that are no rows.

    Raises
    ------
    PredictionsError
        If a file of predictions is missing or broken.
    UnpairedError
        If the seeds of a row rank different impressions.
    ValueError
        If two rows would lie in one directory.
    """
    names = [row.name for row in planned]
    unlisted = [row.base for row in planned if row.base is not None and row.base not in names]
    distinct = [*names, *dict.fromkeys(unlisted)]
    places = [slug(name) for name in distinct]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        raise ValueError(f"table {number} has several rows that lie in {', '.join(twice)}")
    single = {row.name for row in planned if row.deterministic}
    found = {}
    for name in distinct:
        own_seeds = seeds[:1] if name in single else seeds
        files = {seed: prediction_path(directory, number, name, seed) for seed in own_seeds}
        found[name] = user_scores({seed: read_predictions(file) for seed, file in files.items()})
    return found


def build_table(
    number: str, planned: Sequence[PlannedRow], worlds: Sequence[Mapping[str, UserScores]]
) -> dict[str, Any]:
    """Compute a table from the scores of its rows and bases in one world or several."""
    scores = {name: [world[name] for world in worlds] for name in worlds[0]}
    return {
        "rows": [_row(number, row, scores) for row in planned],
        "orders": _orders(number, planned, scores),
    }


def _row(number: str, planned: PlannedRow, scores: Mapping[str, Worlds]) -> dict[str, Any]:
    """Compute a row of a table; figures that do not exist are NaN.

    Returns
    -------
    dict
        ``name``; ``gauc``, one for each seed, a single one for a row without chance; ``lift``, the
        mean over seeds of the difference to ``base``, paired; its 95 % ``interval``, bootstrap over
        users and seeds; ``paper``, ``gauc`` and ``lift`` as the paper has them; ``base`` and
        ``base_gauc``, for each seed; ``users`` with both classes, and their ``impressions``;
        ``against``, ``lift`` and ``interval`` to other rows, by their name; ``share``: ``of`` (the
        best row with the teacher's knowledge), ``value`` and ``interval``, this lift as a share of
        that row's, and the paired ``difference`` to it, ``lift`` and ``interval``; ``transfer``:
        ``of``, ``value`` and ``interval``, this lift over that of the teacher trained on; ``note``.
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
        "users": sum(len(world.users) for world in ranked),
        "impressions": sum(int(world.impressions.sum()) for world in ranked),
        "against": {name: _difference(over) for name, over in against.items()},
        "share": _share(planned, scores),
        "transfer": _transfer(planned, scores),
        "note": _note(planned, ranked),
    }


def _difference(lift: Lift) -> dict[str, Any]:
    return {"lift": lift.mean, "interval": (lift.low, lift.high)}


def _share(planned: PlannedRow, scores: Mapping[str, Worlds]) -> dict[str, Any] | None:
    if not planned.share_of or planned.base is None:
        return None
    best = max(planned.share_of, key=lambda name: float(gauc_per_seed(scores[name]).mean()))
    row, teacher = scores[planned.name], scores[best]
    ratio = ratio_of_lifts(row, teacher, scores[planned.base])
    return {
        "of": best,
        "value": ratio.value,
        "interval": (ratio.low, ratio.high),
        "difference": _difference(paired_lift(row, teacher)),
    }


def _transfer(planned: PlannedRow, scores: Mapping[str, Worlds]) -> dict[str, Any] | None:
    """Compute the transfer ratio, where the teacher's own lift is surely above zero."""
    if planned.transfer_of is None or planned.base is None:
        return None
    teacher, base = scores[planned.transfer_of], scores[planned.base]
    if not paired_lift(teacher, base).low > 0:
        return None
    ratio = ratio_of_lifts(scores[planned.name], teacher, base)
    return {"of": planned.transfer_of, "value": ratio.value, "interval": (ratio.low, ratio.high)}


def _orders(
    number: str, planned: Sequence[PlannedRow], scores: Mapping[str, Worlds]
) -> list[dict[str, Any]]:
    """Compare rows that the paper has and puts one above the other."""
    bases = {row.name: row.base for row in planned}
    printed = {
        row.name: PAPER[number][row.paper].gauc
        for row in planned
        if row.paper is not None and (row.base is None or row.base in bases)
    }
    falling = sorted(printed, key=lambda name: -printed[name])
    lifts = {
        (above, below): lift
        for (above, below), lift in paired_lifts({name: scores[name] for name in falling}).items()
        if printed[above] > printed[below]
    }

    def with_base(name: str) -> tuple[Worlds, Worlds]:
        return scores[name], scores[str(bases[name])]

    for row in planned:
        if row.gains_less_than is not None:
            groups = with_base(row.gains_less_than), with_base(row.name)
            lifts[row.gains_less_than, row.name] = difference_of_lifts(*groups)
    return [
        {"above": above, "below": below, **_difference(lift)}
        for (above, below), lift in lifts.items()
    ]


def _note(planned: PlannedRow, ranked: Worlds) -> str:
    notes = [planned.note] if planned.note else []
    if planned.deterministic:
        notes.append("one score, paired with every seed")
    if not any(len(world.users) for world in ranked):
        notes.append("no user has both classes, so there is no GAUC")
    return "; ".join(notes)
