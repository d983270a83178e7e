"""Which runs make up which table."""

from __future__ import annotations

from pathlib import Path

import pytest

from keep.log import LogInfo
from keep.reproduce.groups import CLICKS, IMPRESSIONS, Group
from keep.reproduce.paper import PAPER, TABLES
from keep.reproduce.plan import (
    COMPARED,
    PRODUCTION,
    TEACHERS,
    TRAINED_ON,
    Entries,
    Run,
    make_plan,
    plug_ins_of,
    runs_of,
    shown,
    windows,
)
from keep.systems.registry import SYSTEMS
from tests.keep.tiny import tiny_log

GROUPS = tuple(
    Group(counted, *bounds)
    for counted in (CLICKS, IMPRESSIONS)
    for bounds in ((0.0, 50.0), (50.0, 150.0), (150.0, float("inf")))
)


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> LogInfo:
    return tiny_log(tmp_path_factory.mktemp("log") / "log").info


@pytest.fixture(scope="module")
def plan(info: LogInfo) -> Entries:
    return make_plan(info, TABLES, GROUPS, with_truth=True)


def test_every_table_of_the_paper_is_there_with_the_paper_s_rows(plan: Entries) -> None:
    assert tuple(plan) == TABLES
    for table, rows in shown(plan).items():
        papers = [row.paper for row in rows if row.paper is not None]
        assert len(papers) == len(set(papers))
        assert set(papers) <= set(PAPER[table])
        if table not in ("6", "7"):  # those depend on the log's days and users
            bases = {name for name in PAPER[table] if name.endswith(" Base")}
            assert set(papers) == set(PAPER[table]) - bases


def test_every_system_has_its_row_in_table_2(plan: Entries) -> None:
    assert {entry.run.system for entry in plan["2"]} >= set(SYSTEMS)


def test_a_system_that_the_paper_lacks_is_compared_without_its_figures(
    info: LogInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {**COMPARED, "newer": Run("conet")}
    monkeypatch.setattr("keep.reproduce.plan.COMPARED", more)
    rows = {row.name: row for row in shown(make_plan(info, ("2",), GROUPS, with_truth=False))["2"]}
    assert (rows["newer"].paper, rows["newer"].base) == (None, "Base")
    assert "newer" in rows["KEEP"].against


def test_every_base_is_stored_under_its_name(plan: Entries) -> None:
    for entries in plan.values():
        stored = {entry.row.name for entry in entries}
        shown_names = {entry.row.name for entry in entries if entry.is_shown}
        for entry in entries:
            assert entry.row.base is None or entry.row.base in stored
            assert set(entry.row.against) <= shown_names


def test_the_last_group_of_each_kind_is_to_gain_less_than_the_first(plan: Entries) -> None:
    less = {row.name: row.gains_less_than for row in shown(plan)["7"] if row.gains_less_than}
    assert less == {
        ">150": "0-50",
        ">150 sub-domain impressions": "0-50 sub-domain impressions",
    }


def test_every_row_of_table_8_with_knowledge_has_a_share_or_is_one_s_whole(plan: Entries) -> None:
    rows = [row for row in shown(plan)["8"] if row.transfer_of]
    assert {row.transfer_of for row in rows} == {TRAINED_ON}
    assert {row.name for row in rows if not row.share_of} == set(TEACHERS)
    assert {row.share_of for row in rows} == {TEACHERS, ()}
    assert TRAINED_ON in {row.name for row in shown(plan)["8"]}


def test_runs_have_names_of_their_own_and_are_shared_between_tables(plan: Entries) -> None:
    runs = runs_of(plan)
    assert len({run.name for run in runs}) == len(runs)
    keep = {
        table: {entry.run for entry in plan[table] if "keep" in entry.run.name} for table in plan
    }
    assert keep["2"] & keep["3"] & keep["4"]
    assert keep["5"] & keep["6"] & keep["7"] & keep["8"]


def test_the_production_setting_has_its_control_without_knowledge(plan: Entries) -> None:
    for table in ("5", "6", "7", "8"):
        without = [entry for entry in plan[table] if entry.run.system != "keep" and entry.is_shown]
        controls = [entry for entry in without if entry.run.days == PRODUCTION]
        assert controls
        held = {name for entry in plan[table] for name in entry.row.against}
        for entry in controls:
            assert entry.row.note.startswith("control: ")
            assert entry.row.name in held
            assert entry.run.knowledge == ""


def test_the_oracle_is_only_there_with_the_truth(info: LogInfo) -> None:
    without = make_plan(info, ("2",), GROUPS, with_truth=False)
    assert "oracle" not in {entry.row.name for entry in without["2"]}


def test_windows_are_a_day_a_quarter_and_all(info: LogInfo, tmp_path: Path) -> None:
    assert windows(info) == (1, 3)
    assert tiny_log(tmp_path / "log", pretrain_until=2).info.train_days == (3, 4)


def test_all_and_chosen_columns_are_rows_as_offline_and_as_served(plan: Entries) -> None:
    rows = {entry.row.name: entry.run for entry in plan["8"]}
    both = "decomposition + degeneration"
    for name, knowledge in ((both, "both"), (f"{both}, chosen columns", "both_logits")):
        assert (rows[name].knowledge, rows[name].served) == (knowledge, "")
        for precision in ("f16", "int8"):
            served = rows[f"{name}, served {precision}"]
            assert (served.knowledge, served.served) == (knowledge, precision)


def test_plug_ins_are_tuned_with_what_the_tables_plug_in(plan: Entries) -> None:
    assert plug_ins_of(plan) == ("both", "both_logits", "teacher_logits")
    assert plug_ins_of({"2": plan["2"]}) == ("teacher_logits",)
    assert plug_ins_of({"3": plan["3"]}) == ()
