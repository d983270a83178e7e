from __future__ import annotations

from pathlib import Path

import pytest

from keep.log import open_log
from keep.reproduce.registration import read_plan
from tests.in_process import command, done

pytestmark = pytest.mark.slow


def test_the_small_preset_is_large_enough_and_repeats(tmp_path: Path) -> None:
    printed = done("keep", "simulate", "--out", tmp_path / "a", "--seed", 3)
    done("keep", "simulate", "--out", tmp_path / "b", "--seed", 3)
    one, two = open_log(tmp_path / "a").info, open_log(tmp_path / "b").info
    assert one == two
    assert one.rows >= 200_000
    assert len(one.days) == 10
    assert one.seed == 3
    assert f"checksum of the columns {one.checksum}" in printed
    assert (tmp_path / "a" / "truth" / "day=0010.parquet").exists()


def test_a_plan_says_preset_and_seed_of_its_worlds(tmp_path: Path) -> None:
    draft = Path(__file__).parents[3] / "docs" / "reproduction" / "plan.draft.json"
    plan = tmp_path / "plan.json"
    plan.write_text(draft.read_text().replace('"half"', '"small"'))
    done("keep", "simulate", "--out", tmp_path / "log", "--plan", plan, "--world", 1)
    info = open_log(tmp_path / "log").info
    assert info.seed == read_plan(plan).seeds[1]
    read_plan(plan).check(info, 12)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--out", "x", "--preset", "huge"],
        ["--out", "x", "--seed", "-1"],
        ["--out", "x", "--world", "0"],
        ["--out", "x", "--plan", "plan.json", "--world", "0", "--seed", "1"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert command("keep", "simulate", *arguments).returncode == 2
