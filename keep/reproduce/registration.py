"""A plan that is written down before a test day is read, and the ledger of every read.

A plan is a JSON file; ``docs/reproduction/plan.draft.json`` shows one. It says what will be tried,
how it is chosen and what is claimed, and nobody can pick the worlds that it is judged on: their
seeds come from the file's own bytes. The ledger has a line of JSON for each time that ``keep
reproduce`` scored a test day; it lies beside the plan, or in the folder of the results where there
is none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keep.atomic import json_values
from keep.errors import ProblemError
from keep.log import LogInfo
from keep.sources.simulator import PRESETS, SimulatorConfig

FORMAT = "keep-plan/1"
"""What a plan says it is."""
LEDGER_FILE = "reads.jsonl"
WORLDS = "worlds"
"""What the thresholds of the fresh worlds are called; others are called like their log."""


class PlanError(ProblemError):
    """A plan that cannot be used, or not for this."""

    kind = "plan "


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What was written down; but for the last two, the fields of the file."""

    commit: str
    """Commit of the code that the plan is about, 40 hexadecimal digits; it holds the option spaces
    to the letter."""
    preset: str
    """Preset of ``keep simulate`` that the fresh worlds have."""
    worlds: int
    """How many fresh worlds there are."""
    logs: Mapping[str, str]
    """Checksums of further logs whose test day will be read, by name."""
    trials: int
    """Options tried for each system."""
    option_spaces: Mapping[str, Any]
    """What is tried, by method."""
    selection: str
    """By which rule one of them is chosen."""
    endpoint: Mapping[str, str]
    """What is claimed first of all: a ``row`` of a ``table``."""
    thresholds: Mapping[str, Mapping[str, float]]
    """What that row must reach, by log, the fresh worlds together as ``WORLDS``: ``share`` and
    ``share_low``, its lower bound; ``difference`` of its GAUC to the teacher's."""
    sha256: str
    """Checksum of the file."""
    path: Path
    """Where it lies."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the fresh worlds."""
        return world_seeds(self.sha256, self.worlds)

    @property
    def facts(self) -> dict[str, Any]:
        """Return what results carry of the plan: its fields as JSON values, and ``sha256``."""
        return {name: getattr(self, name) for name in (*_TYPES, "sha256")}

    @property
    def ledger(self) -> Path:
        """Where reads that follow this plan are recorded."""
        return self.path.with_name(LEDGER_FILE)

    def world(self, number: int) -> tuple[SimulatorConfig, int]:
        """Return parameters and seed of a fresh world, counted from 0.

        Raises
        ------
        PlanError
            If there are not so many.
        """
        if number >= self.worlds:
            raise PlanError(self.path, f"has worlds 0 to {self.worlds - 1}, no world {number}")
        return PRESETS[self.preset], self.seeds[number]

    def check(self, info: LogInfo, trials: int) -> None:
        """Check that a reading of a log with so many trials a system is what was planned.

        Raises
        ------
        PlanError
            If it is not.
        """
        config = json_values(dataclasses.asdict(PRESETS[self.preset]))
        is_world = info.seed in self.seeds and json_values(info.params) == config
        if not is_world and self.logs.get(info.name) != info.checksum:
            seeds, logs = ", ".join(map(str, self.seeds)), ", ".join(self.logs)
            raise PlanError(
                self.path,
                f"does not name the log {info.name}, checksum {info.checksum[:12]}; it is about "
                f"preset {self.preset} with seeds {seeds}, and about {logs or 'no other log'}",
            )
        if trials != self.trials:
            raise PlanError(
                self.path, f"says {self.trials} trials a system, this preset has {trials}"
            )


def world_seeds(sha256: str, worlds: int) -> tuple[int, ...]:
    """Return the first eight hexadecimal digits of a plan's checksum, + 0, 1, 2 and so on."""
    return tuple(int(sha256[:8], 16) + world for world in range(worlds))


_TYPES: Mapping[str, type] = {
    "commit": str,
    "preset": str,
    "worlds": int,
    "logs": dict,
    "trials": int,
    "option_spaces": dict,
    "selection": str,
    "endpoint": dict,
    "thresholds": dict,
}


def read_plan(path: Path) -> Registration:
    """Read a plan and check that nothing in it is missing, unknown or out of place.

    Raises
    ------
    PlanError
        If there is none, or something is wrong with it.
    """
    try:
        content = path.read_bytes()
        values = json.loads(content)
    except FileNotFoundError as exc:
        raise PlanError(path, "is missing; docs/reproduction/plan.draft.json shows one") from exc
    except (OSError, ValueError) as exc:
        raise PlanError(path, f"cannot be read as JSON ({exc})") from exc
    problem = _problem(values)
    if problem:
        raise PlanError(path, problem)
    fields = {name: values[name] for name in _TYPES}
    return Registration(**fields, sha256=hashlib.sha256(content).hexdigest(), path=path)


def _problem(values: Any) -> str:  # noqa: ANN401 - any JSON value
    """Say what is wrong with a plan; nothing if all is well."""
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return f"is not of the format {FORMAT!r}"
    wrong = set(values) ^ {"format", *_TYPES}
    if wrong:
        name = min(wrong)
        return f"has the unknown field {name!r}" if name in values else f"has no {name!r}"
    for name, kind in _TYPES.items():
        if type(values[name]) is not kind:
            return f"{name} is {values[name]!r}, not of type {kind.__name__}"
    if not re.fullmatch("[0-9a-f]{40}", values["commit"]):
        return f"commit is {values['commit']!r}, not 40 hexadecimal digits"
    if values["preset"] not in PRESETS:
        return f"preset is {values['preset']!r}, not one of {', '.join(PRESETS)}"
    if values["worlds"] < 0 or values["trials"] < 1:
        return "worlds must be at least 0, trials at least 1"
    if set(values["endpoint"]) != {"table", "row"}:
        return "endpoint must say a 'table' and a 'row'"
    return _threshold_problem(values["thresholds"], {WORLDS, *values["logs"]})


def _threshold_problem(thresholds: Mapping[str, Any], names: set[str]) -> str:
    for name, reached in thresholds.items():
        if name not in names:
            return f"thresholds name {name!r}, which is neither {WORLDS!r} nor one of the logs"
        known = {"share", "share_low", "difference"}
        if not isinstance(reached, dict) or not set(reached) <= known:
            return f"thresholds of {name} may say {', '.join(sorted(known))} and nothing else"
        if not all(type(value) in (int, float) for value in reached.values()):
            return f"thresholds of {name} are not all numbers"
    return ""


def record_read(
    ledger: Path,
    info: LogInfo,
    plan: Registration | None,
    commit: str,
    rows: Mapping[str, Sequence[str]],
    changed: Sequence[str] | None,
) -> None:
    """Append to a ledger that a log's test day is about to be scored, for which rows by table.

    ``changed`` are files of code that are not as at the plan's commit; None if nobody knows.
    """
    read = {
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "log": info.name,
        "seed": info.seed,
        "checksum": info.checksum,
        "plan": plan.sha256 if plan else None,
        "commit": commit,
        "changed": changed,
        "rows": rows,
    }
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with ledger.open("a", encoding="utf-8") as file:
        file.write(json.dumps(json_values(read)) + "\n")


def read_ledger(ledger: Path) -> list[dict[str, Any]]:
    """Read every line of a ledger; none if there is no ledger yet."""
    if not ledger.exists():
        return []
    return [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
