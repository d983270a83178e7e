"""A plan is whole or refused, its worlds follow from its bytes, and reads are recorded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from keep.log import LogInfo
from keep.reproduce.registration import (
    PlanError,
    Registration,
    read_ledger,
    read_plan,
    record_read,
)
from keep.sources.simulator import PRESETS

DRAFT = Path(__file__).parents[3] / "docs" / "reproduction" / "plan.draft.json"


def values() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DRAFT.read_text(encoding="utf-8"))
    return found


def written(folder: Path, **changes: object) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps({**values(), **changes}), encoding="utf-8")
    return path


def info(name: str = "own", checksum: str = "abc", **more: Any) -> LogInfo:
    return LogInfo(
        name=name,
        source="",
        sub_domain_scenes=("ads",),
        pretrain_until=1,
        train_days=(2, 3),
        test_day=4,
        checksum=checksum,
        **more,
    )


def world(plan: Registration, number: int) -> LogInfo:
    config, seed = plan.world(number)
    return info("simulated-half", seed=seed, params=dataclasses.asdict(config))


def test_the_seeds_of_the_fresh_worlds_are_the_digits_of_the_file_s_checksum() -> None:
    plan = read_plan(DRAFT)
    digits = hashlib.sha256(DRAFT.read_bytes()).hexdigest()[:8]
    assert plan.seeds == tuple(int(digits, 16) + world for world in range(3))
    assert plan.world(2) == (PRESETS["half"], plan.seeds[2])
    with pytest.raises(PlanError, match="has worlds 0 to 2, no world 3"):
        plan.world(3)


def test_one_byte_more_is_another_plan_with_other_worlds(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(DRAFT.read_bytes() + b"\n")
    assert not set(read_plan(path).seeds) & set(read_plan(DRAFT).seeds)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": "keep-plan/2"}, "is not of the format 'keep-plan/1'"),
        ({"hope": 1}, "has the unknown field 'hope'"),
        ({"trials": "12"}, "trials is '12', not of type int"),
        ({"trials": 0}, "trials at least 1"),
        ({"commit": "7a8f667"}, "not 40 hexadecimal digits"),
        ({"preset": "huge"}, "preset is 'huge', not one of small, large, half, development"),
        ({"endpoint": {"table": "8"}}, "endpoint must say a 'table' and a 'row'"),
        ({"thresholds": {"jd": {}}}, "thresholds name 'jd', which is neither"),
        ({"thresholds": {"worlds": {"lift": 1}}}, "may say difference, share, share_low"),
        ({"thresholds": {"worlds": {"share": "1"}}}, "thresholds of worlds are not all numbers"),
    ],
)
def test_a_plan_with_a_fault_is_refused(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(PlanError, match=problem):
        read_plan(written(tmp_path, **changes))


def test_a_plan_that_lacks_a_field_is_no_json_or_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with pytest.raises(PlanError, match="is missing"):
        read_plan(path)
    path.write_text("{")
    with pytest.raises(PlanError, match="cannot be read as JSON"):
        read_plan(path)
    rest = values()
    del rest["selection"]
    path.write_text(json.dumps(rest))
    with pytest.raises(PlanError, match="has no 'selection'"):
        read_plan(path)


def test_a_plan_is_about_its_worlds_and_the_logs_that_it_names(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path, logs={"own": "abc"}, thresholds={}))
    plan.check(world(plan, 1), 12)
    plan.check(info(), 12)
    with pytest.raises(PlanError, match="does not name the log own, checksum abd"):
        plan.check(info(checksum="abd"), 12)
    picked = dataclasses.replace(world(plan, 1), seed=1)
    with pytest.raises(PlanError, match="does not name the log simulated-half"):
        plan.check(picked, 12)
    easier = {**world(plan, 1).params, "noise_deviation": 0.0}
    with pytest.raises(PlanError, match="does not name the log"):
        plan.check(dataclasses.replace(world(plan, 1), params=easier), 12)
    with pytest.raises(PlanError, match="says 12 trials a system, this preset has 3"):
        plan.check(info(), 3)


def test_every_read_is_a_line_of_the_ledger(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path))
    assert read_ledger(plan.ledger) == []
    record_read(plan.ledger, info(), plan, "0123abc", {"8": ["Base", "KEEP"]}, ["keep/din.py"])
    record_read(plan.ledger, info(), None, "0123abc", {"2": ["Base"]}, None)
    first, second = read_ledger(tmp_path / "reads.jsonl")
    assert first["when"].endswith("Z")
    assert first["plan"] == plan.sha256
    assert (first["log"], first["checksum"], first["commit"]) == ("own", "abc", "0123abc")
    assert first["rows"] == {"8": ["Base", "KEEP"]}
    assert first["changed"] == ["keep/din.py"]
    assert second["plan"] is None
