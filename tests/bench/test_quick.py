"""What became slower than recorded is named and ends with 1; everything else passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from fastapi import FastAPI
from typer.testing import CliRunner

from bench import quick
from bench.quick import BASELINE, CASES, TOLERATED, least_seconds
from bench.servers.empty import app as empty_app
from bench.world import Shape

runner = CliRunner()
app = typer.Typer()
app.command()(quick.main)
SMALL, JSON = "B = 1, rows", "B = 500, JSON"


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record a cost of 4 for everything."""
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({"costs": dict.fromkeys(CASES, 4.0)}), encoding="utf-8")
    monkeypatch.setattr(quick, "BASELINE", path)
    return path


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Return what is found instead of measuring; medians are as recorded."""
    found = {name: [4.0, 3.0, 40.0] for name in CASES}

    async def measured(_: str) -> dict[str, list[float]]:
        return found

    monkeypatch.setattr(quick, "export", lambda *_: None)
    monkeypatch.setattr(quick, "measure", measured)
    return found


@pytest.mark.usefixtures("baseline")
def test_costs_as_recorded_pass_whatever_one_round_was(costs: dict[str, list[float]]) -> None:
    costs[SMALL] = [TOLERATED * 4] * 3
    result = runner.invoke(app)
    assert (result.exit_code, result.stderr) == (0, "")
    assert all(name in result.stdout for name in CASES)


@pytest.mark.usefixtures("baseline")
def test_what_became_slower_is_named_and_nothing_else(costs: dict[str, list[float]]) -> None:
    costs[SMALL] = costs[JSON] = [TOLERATED * 4.01] * 3
    result = runner.invoke(app)
    assert result.exit_code == 1
    assert result.stderr == f"slower than recorded: {SMALL}; {JSON}\n"


def test_a_record_is_of_medians_and_tells_its_circumstances(
    baseline: Path, costs: dict[str, list[float]]
) -> None:
    costs[SMALL] = [5.0, 9.00049, 10.0]
    assert runner.invoke(app, ["--record"]).exit_code == 0
    kept = json.loads(baseline.read_text(encoding="utf-8"))
    assert kept["costs"] == {**dict.fromkeys(CASES, 4.0), SMALL: 9.0}
    assert kept["circumstances"].keys() == {"command", "date", "machine", "versions"}


def test_every_case_has_a_record() -> None:
    assert json.loads(BASELINE.read_text(encoding="utf-8"))["costs"].keys() == CASES.keys()


@pytest.mark.slow
def test_a_small_version_is_measured_and_compared(
    baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "SHAPE", Shape(users=5, items=600, pairs=3, dim=8))
    monkeypatch.setattr(quick, "ROUNDS", 1)
    monkeypatch.setattr(quick, "REQUESTS", 3)
    recorded = {**dict.fromkeys(CASES, 1e6), JSON: 1e-6}
    baseline.write_text(json.dumps({"costs": recorded}), encoding="utf-8")
    result = runner.invoke(app)
    assert result.exit_code == 1
    assert f"slower than recorded: {JSON}\n" in result.stderr


async def test_a_request_that_is_refused_ends_it() -> None:
    assert await least_seconds(empty_app, [b"{}"], "*/*") > 0
    with pytest.raises(SystemExit, match=r"answered \[404\]: b'\{\}'"):
        await least_seconds(FastAPI(), [b"{}"], "*/*")
